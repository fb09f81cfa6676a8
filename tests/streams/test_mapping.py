"""Mappings: other people's files read as interactions; a line that does not fit is named, never guessed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.mapping import MappingError, apply_mapping, parse_mapping

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def paths(value, at=()):
    """Yield every path into `value` that a mapping can write down."""
    if at:
        yield at, value
    if isinstance(value, dict):
        children = [(key, child) for key, child in value.items() if "." not in key]
    else:
        children = list(enumerate(value)) if isinstance(value, list) else []
    for key, child in children:
        yield from paths(child, (*at, str(key)))


@given(st.dictionaries(st.text(min_size=1, max_size=4), json_values, max_size=4))
def test_every_place_can_be_reached(source):
    line = msgspec.json.encode(source)
    for path, value in paths(source):
        found = msgspec.json.decode(apply_mapping(line, {"x": ".".join(path)}, {}))
        assert found == {"x": value}


def test_constants_fill_what_the_line_does_not_say():
    line = b'{"release": "2", "prompt": "p"}'
    found = msgspec.json.decode(apply_mapping(line, {}, {"release": "1", "deployment": "d"}))
    assert found == {"deployment": "d", "release": "2", "prompt": "p"}
    found = msgspec.json.decode(apply_mapping(line, {"prompt": "prompt"}, {"release": "1"}))
    assert found == {"release": "1", "prompt": "p"}


@pytest.mark.parametrize(
    ("path", "step"),
    [("absent", "absent"), ("list.9", "9"), ("list.x", "x"), ("text.0", "0"), ("number.a", "a"),
     ("none.a", "a"), ("list..0", ""), ("", ""), ("object.a.b", "b")],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_named(path, step):
    line = msgspec.json.encode({"list": [1], "text": "secret", "number": 5, "none": None, "object": {"a": 1}})
    with pytest.raises(MappingError, match=rf"^prompt: the path .* leads nowhere at '{step}'$") as caught:
        apply_mapping(line, {"prompt": path}, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": "\\ud800"}', b"{} {}"])
def test_what_is_not_json_is_refused(line):
    with pytest.raises(MappingError, match=r"^not JSON"):
        apply_mapping(line, {}, {})


@pytest.mark.parametrize("line", [b"[]", b"5", b"null", b'"text"'])
def test_what_is_no_object_is_refused(line):
    with pytest.raises(MappingError, match="not a JSON object"):
        apply_mapping(line, {"prompt": "0"}, {})


@given(st.dictionaries(st.text(min_size=1).filter(lambda t: "=" not in t), st.text(min_size=1)))
def test_pairs_are_read_back(mapping):
    assert parse_mapping(tuple(f"{field}={path}" for field, path in mapping.items())) == mapping


@pytest.mark.parametrize("pairs", [("",), ("=",), ("a=",), ("=a",), ("a",), ("a=b", "a=c")])
def test_pairs_that_say_nothing_are_refused(pairs):
    with pytest.raises(MappingError, match=r"^--map"):
        parse_mapping(pairs)


def test_what_is_forced_wins_over_the_line_and_the_mapping():
    line = b'{"event_time": 1, "prompt": "x"}'
    forced = {"event_time": 9}
    for mapping in ({}, {"event_time": "event_time", "prompt": "prompt"}):
        made = msgspec.json.decode(apply_mapping(line, mapping, {"event_time": 5, "release": "r"}, forced))
        assert made == {"event_time": 9, "prompt": "x", "release": "r"}
