"""What can go wrong with the embedded store, said in one line with the remedy."""


class StorageError(Exception):
    """The data directory cannot be used as it is; the text names the file and the remedy."""
