"""How a detector is held to its word: every detector brings its own trial, the shared checks run it."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from msgspec import Struct

Arguments = Mapping[str, Any]
"""The keyword arguments of one ``update``."""


class Trial(Struct, frozen=True, kw_only=True):
    """A ready detector and what to feed it; the class method ``trial()`` of a detector returns one.

    ``build`` returns a new detector. ``steady`` and ``changed`` give endless observations without and with
    the change that the detector looks for, drawn from the generator handed in; in ``changed`` the change is
    there from the first one. ``patience`` is how many changed observations it may need before it fires.
    ``refused`` are observations that ``update`` must refuse with a ``ValueError``.
    """

    build: Callable[[], Any]
    steady: Callable[[Random], Iterator[Arguments]]
    changed: Callable[[Random], Iterator[Arguments]]
    refused: tuple[Arguments, ...]
    patience: int
