"""The registry: one file one part, built from checked parameters, every error with its path."""

from typing import Annotated

import pytest
from msgspec import Meta

from detectors.registry import PartError, Registry
from detectors.rules import RULES
from detectors.scorers import SCORERS


@pytest.fixture
def shapes():
    registry = Registry("shape", "detectors.records")

    @registry.register("square")
    class Square:
        def __init__(
            self, *, side: Annotated[float, Meta(gt=0)] = 1.0, names: tuple[str, ...] = (), must: int
        ) -> None:
            if must == 13:
                raise ValueError("not 13")
            self.side, self.names, self.must = side, names, must

    @registry.register("dot")
    class Dot:
        pass

    return registry


def test_parameters_become_typed_arguments(shapes):
    built = shapes.build("square", {"side": 2, "names": ["a"], "must": 1})
    assert (built.side, built.names, built.must) == (2.0, ("a",), 1)
    assert type(shapes.build("dot", {})).__name__ == "Dot"


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("circle", {}, "shape[0]: unknown shape 'circle'; known: dot, square"),
        ("square", {}, "shape[0]: Object missing required field `must`"),
        ("square", {"must": 1, "sid": 1}, "shape[0]: Object contains unknown field `sid`"),
        ("square", {"must": "1"}, "shape[0]: Expected `int`, got `str` - at `$.must`"),
        ("square", {"must": 1, "side": 0}, "shape[0]: Expected `float` > 0.0 - at `$.side`"),
        ("square", {"must": 1, "side": float("nan")}, "shape[0]: Expected `float` > 0.0 - at `$.side`"),
        ("square", {"must": 13}, "shape[0]: not 13"),
        ("dot", {"x": 1}, "shape[0]: Object contains unknown field `x`"),
    ],
)
def test_an_error_carries_its_path(shapes, name, parameters, told):
    with pytest.raises(PartError) as caught:
        shapes.build(name, parameters, path="shape[0]")
    assert str(caught.value) == told


def test_two_parts_of_one_name_are_an_error_even_if_their_classes_share_theirs(shapes):
    first = type("Twin", (), {"__module__": "one", "__qualname__": "Twin"})
    second = type("Twin", (), {"__module__": "two", "__qualname__": "Twin"})
    shapes.register("twin")(first)
    with pytest.raises(PartError, match="two shapes are called 'twin'"):
        shapes.register("twin")(second)
    again = type("Twin", (), {"__module__": "one", "__qualname__": "Twin"})
    shapes.register("twin")(again)  # the same module, loaded again
    assert shapes.get("twin") is again


@pytest.mark.parametrize("registry", [SCORERS, RULES], ids=lambda registry: registry.kind)
def test_the_folder_is_the_list(registry):
    names = registry.names()
    assert names == sorted(set(names))
    assert names
    for name in names:
        assert registry.get(name).__module__.startswith(f"{registry._package}.")
        assert registry.build(name, {}).name == name
