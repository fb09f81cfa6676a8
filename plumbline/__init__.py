"""What an application imports: :mod:`plumbline.client`, and nothing heavier."""

__version__ = "0.1.0"
