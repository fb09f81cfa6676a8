"""What all scorers share, computed once per interaction."""

from detectors.features.interaction_features import Features

__all__ = ["Features"]
