"""Files of questions and answers, read as interactions.

A mapping names, for each field of an interaction, where it stands in a line of the file: a dotted path whose
numbers index lists (``messages.1.content.answer``).
"""

from collections.abc import Mapping
from typing import Any

import msgspec


class MappingError(ValueError):
    """A mapping that cannot be used, or a line it does not fit; the text names field and path."""


def parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return field -> path from ``field=path`` texts.

    Examples
    --------
    >>> parse_mapping(("prompt=messages.0.content",))
    {'prompt': 'messages.0.content'}
    >>> parse_mapping(("prompt",))
    Traceback (most recent call last):
        ...
    streams.mapping.MappingError: --map 'prompt': write field=path, such as prompt=messages.0.content
    """
    found: dict[str, str] = {}
    for pair in pairs:
        field, separator, path = pair.partition("=")
        if not separator or not field or not path:
            raise MappingError(f"--map {pair!r}: write field=path, such as prompt=messages.0.content")
        if field in found:
            raise MappingError(f"--map {field}: given twice")
        found[field] = path
    return found


def apply_mapping(
    line: bytes,
    mapping: Mapping[str, str],
    constants: Mapping[str, Any],
    forced: Mapping[str, Any] | None = None,
) -> bytes:
    """Return `line` as one submission of the door: `mapping` picks its fields, `constants` fill the rest.

    An empty `mapping` keeps the line's own fields. `forced` fields win over the line's own.

    Raises
    ------
    MappingError
        If the line is not a JSON object, or a path leads nowhere.
    """
    try:
        source = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"not JSON: {error}") from error
    if not isinstance(source, dict):
        raise MappingError("not a JSON object")
    fields = {field: _follow(source, field, path) for field, path in mapping.items()} if mapping else source
    return msgspec.json.encode({**constants, **fields, **(forced or {})})


def _follow(source: Any, field: str, path: str) -> Any:
    value = source
    for step in path.split("."):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise MappingError(f"{field}: the path {path!r} leads nowhere at {step!r}") from None
    return value
