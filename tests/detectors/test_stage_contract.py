"""The state of a partition: what changed is written, what was dropped is gone, foreign state is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.stages.contract import ForeignStateError, StageState

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.just("drop") | plain.map(lambda v: ("put", v))), max_size=12
)


@given(st.lists(steps, max_size=5))
def test_what_is_stored_is_what_is_there(rounds):
    stored: dict[str, bytes] = {}
    state, wanted = StageState({}), {}
    for changes in rounds:
        for key, what in changes:
            if what == "drop":
                state.drop(key)
                wanted.pop(key, None)
            else:
                state.put(key, what[1])
                wanted[key] = what[1]
        for key, blob in state.take_changes().items():
            if blob is None:
                stored.pop(key, None)
            else:
                stored[key] = blob
        again = StageState(stored)
        assert again.keys("") == sorted(wanted)
        assert {key: again.get(key) for key in wanted} == wanted
        assert state.take_changes() == {}


def test_a_dropped_none_is_gone_too():
    state = StageState({})
    state.put("k", None)
    state.take_changes()
    state.drop("k")
    assert state.take_changes() == {"k": None}


def test_keys_are_found_by_their_beginning():
    state = StageState({})
    for key in ("b", "ab", "a", "aa"):
        state.put(key, 1)
    assert state.keys("a") == ["a", "aa", "ab"]
    assert state.get("absent", 7) == 7


def test_foreign_state_is_refused_with_the_remedy():
    with pytest.raises(
        ForeignStateError, match="of version 99, this code writes 4: run the version that wrote it"
    ):
        StageState({"k": msgspec.msgpack.encode([99, 1])})
    with pytest.raises(ForeignStateError, match="has no value"):
        StageState({"k": None})  # type: ignore[dict-item]


@pytest.mark.parametrize("blob", [b"", b"\xc1", msgspec.msgpack.encode(5), msgspec.msgpack.encode([1])])
def test_damaged_state_is_refused(blob):
    with pytest.raises((ValueError, TypeError)):
        StageState({"k": blob})
