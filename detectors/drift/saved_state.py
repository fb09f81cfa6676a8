"""How every detector reads back the state it saved."""

from typing import Any, Protocol, TypeVar

import msgspec


class Versioned(Protocol):
    """A saved state names the version of its shape."""

    @property
    def version(self) -> int:
        """Raised whenever the shape or its meaning changes."""
        ...


S = TypeVar("S", bound=Versioned)


def read_state(state: dict[str, Any], shape: type[S], *, of: str, version: int) -> S:
    """Return `state` as a `shape`.

    Raises
    ------
    ValueError
        If it has another shape, or was saved by another version of the detector called `of`.

    Examples
    --------
    >>> from detectors.drift.confidence_sequence import SequenceState
    >>> read_state({}, SequenceState, of="BettingSequence", version=1)
    Traceback (most recent call last):
        ...
    ValueError: not a state of BettingSequence: Object missing required field `version`
    """
    try:
        read = msgspec.convert(state, shape)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a state of {of}: {error}") from error
    if read.version != version:
        raise ValueError(f"state version {read.version} is not {version}")
    return read
