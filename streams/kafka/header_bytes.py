r"""Bytes that decode whatever they are: what is not UTF-8 becomes ``\xff`` and the like. Pure."""


class HeaderBytes(bytearray):
    r"""A buffer whose pieces decode; put under a client's reader of records it lets any header name pass.

    Examples
    --------
    >>> print(HeaderBytes(b"name \xff")[0:6].decode("utf-8"))
    name \xff
    """

    def __getitem__(self, where):  # type: ignore[no-untyped-def]  # bytearray has overloads for this
        """Return a number, or a piece that decodes as well."""
        found = super().__getitem__(where)
        return HeaderBytes(found) if isinstance(where, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - bytearray's own
        """Return the text; nothing is an error."""
        return super().decode(encoding, "backslashreplace")
