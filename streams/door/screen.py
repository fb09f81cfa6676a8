"""Every text of one record through the redactor, and the findings with the name of their field."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from detectors.records import Redaction

_SHORTEST_CARD: Final = 10**13  # 14 digits; Unix milliseconds have 13


class TextRedactor(Protocol):
    """What replaces personal data and secrets by placeholders (:class:`detectors.redaction.Redactor`)."""

    def redact(self, text: str, field: str) -> tuple[str, tuple[Redaction, ...]]:
        """Return the redacted `text` and what was found in it, under the name `field`."""
        ...


class Screen:
    """The redaction of one record: call it for each text, then read ``redactions``.

    Parameters
    ----------
    redactor
        What finds and replaces.

    Examples
    --------
    >>> class Censor:
    ...     def redact(self, text, field):
    ...         return text.replace("Ann", "[NAME]"), ()
    >>> Screen(Censor()).tree({"Ann": ["Ann", 1]}, "extra")
    {'[NAME]': ['[NAME]', 1]}
    """

    def __init__(self, redactor: TextRedactor) -> None:
        self._redactor = redactor
        self._found: list[Redaction] = []

    @property
    def redactions(self) -> tuple[Redaction, ...]:
        """Everything found so far, in the order of the calls."""
        return tuple(self._found)

    def text(self, text: str, field: str) -> str:
        """Return `text` redacted; what is found is kept under the name `field`."""
        if not text:
            return text
        clean, found = self._redactor.redact(text, field)
        self._found += found
        return clean

    def texts(self, values: Mapping[str, str], field: str) -> dict[str, str]:
        """Return `values` with keys and values redacted; a finding in a key has the name `field`."""
        clean: dict[str, str] = {}
        for key, value in values.items():
            name = self._key(key, field, clean)
            clean[name] = self.text(value, f"{field}.{name}")
        return clean

    def tree(self, value: Any, field: str) -> Any:
        """Return the JSON `value` with every text in it redacted; its depth was bounded before.

        An integer as long as a card number is read as a text too, and becomes one if something is found.
        """
        if isinstance(value, str):
            return self.text(value, field)
        if isinstance(value, int) and abs(value) >= _SHORTEST_CARD:
            digits = self.text(str(value), field)
            return value if digits == str(value) else digits
        if isinstance(value, list):
            return [self.tree(child, f"{field}[{place}]") for place, child in enumerate(value)]
        if isinstance(value, dict):
            clean: dict[str, Any] = {}
            for key, child in value.items():
                name = self._key(key, field, clean)
                clean[name] = self.tree(child, f"{field}.{name}")
            return clean
        return value

    def _key(self, key: str, field: str, taken: Mapping[str, Any]) -> str:
        """Return a redacted key; two keys that become one placeholder stay two."""
        name = self.text(key, field)
        return f"{name}#{len(taken)}" if name in taken else name
