"""What can be wrong with a broker, said so that somebody can act on it."""


class BrokerError(RuntimeError):
    """A broker that cannot be used as asked; the text is one line and names the remedy, never a secret."""
