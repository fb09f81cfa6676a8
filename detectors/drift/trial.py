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
    ``refused`` are observations that ``update`` must refuse with a ``ValueError``. ``restore`` builds the
    detector again from a state, for those whose ``from_state`` needs a shared reference beside it.
    ``kept_by_reset`` names the fields of the state that outlive ``reset``, beside ``refused``.
    """

    build: Callable[[], Any]
    steady: Callable[[Random], Iterator[Arguments]]
    changed: Callable[[Random], Iterator[Arguments]]
    refused: tuple[Arguments, ...]
    patience: int
    restore: Callable[[dict[str, Any]], Any] | None = None
    kept_by_reset: tuple[str, ...] = ()
