"""One file is one part: it registers itself, and its constructor is its configuration.

A registry walks its folder once, on first use, so adding a part means adding a file, with no list to edit.
Parameters come from TOML tables; an unknown name, an unknown key or a wrong type is an error that carries
its path, never a default.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

P = TypeVar("P")


class PartError(ValueError):
    """A part that cannot be registered or built as asked; the text says where and what is possible."""


class Registry(Generic[P]):
    """The parts of one kind, by name.

    Parameters
    ----------
    kind
        What the parts are, in error texts (``scorer``).
    package
        The folder that holds them (``detectors.scorers``).

    Examples
    --------
    >>> shapes = Registry[object]("shape", "detectors.records")
    >>> @shapes.register("square")
    ... class Square:
    ...     def __init__(self, *, side: float = 1.0) -> None:
    ...         self.side = side
    >>> shapes.build("square", {"side": 2}, path="shape[0]").side
    2.0
    >>> shapes.build("square", {"sid": 2}, path="shape[0]")
    Traceback (most recent call last):
        ...
    detectors.registry.PartError: shape[0]: Object contains unknown field `sid`
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._parts: dict[str, type[P]] = {}
        self._walked = False

    def register(self, name: str) -> Callable[[type[Any]], type[Any]]:
        """Return the class decorator that enters a part under `name`; the same name twice is an error."""

        def enter(part: type[Any]) -> type[Any]:
            known = self._parts.get(name)
            if known is not None and _origin(known) != _origin(part):
                raise PartError(f"two {self.kind}s are called {name!r}: {known!r} and {part!r}")
            self._parts[name] = part
            return part

        return enter

    def names(self) -> list[str]:
        """Return every name, sorted."""
        self._walk()
        return sorted(self._parts)

    def get(self, name: str, *, path: str = "") -> type[P]:
        """Return the class called `name`.

        Raises
        ------
        PartError
            If there is none; the text lists what there is.
        """
        self._walk()
        try:
            return self._parts[name]
        except KeyError:
            where = f"{path}: " if path else ""
            raise PartError(
                f"{where}unknown {self.kind} {name!r}; known: {', '.join(self.names())}"
            ) from None

    def build(self, name: str, parameters: Mapping[str, Any], *, path: str = "") -> P:
        """Return a new part, its keyword-only constructor fed from `parameters`.

        Raises
        ------
        PartError
            For an unknown name or key, a wrong type, a missing parameter or a refused value.
        """
        part = self.get(name, path=path)
        try:
            return part(**_convert(part, parameters))
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise PartError(f"{path or self.kind + ' ' + name}: {error}") from error

    def _walk(self) -> None:
        if self._walked:
            return
        self._walked = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            importlib.import_module(module.name)


def _origin(part: type[Any]) -> tuple[str, str]:
    """Return where `part` is written: a module that is loaded again enters its own parts again."""
    return part.__module__, part.__qualname__


def _convert(part: type[Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check `parameters` against the constructor's annotations and return them as typed arguments."""
    hints = get_type_hints(part.__init__, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in list(inspect.signature(part.__init__).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # object's own constructor: a part without parameters
        kind = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind | msgspec.UnsetType, msgspec.UNSET))
    shape = msgspec.defstruct("Parameters", fields, kw_only=True, forbid_unknown_fields=True)
    converted = msgspec.convert(dict(parameters), shape)
    given = {field: getattr(converted, field) for field in shape.__struct_fields__}
    return {name: value for name, value in given.items() if value is not msgspec.UNSET}
