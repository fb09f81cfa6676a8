"""Slices: what they are read from, and that a value stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.features import Features
from detectors.records import Turn
from detectors.records.wording import is_plain
from detectors.stages.segments import SegmentRule, check_source, segments_of


def value(source: str, **fields) -> str | None:
    features = Features.of(prompt="Where is my invoice, please?", response="There.", **fields)
    return segments_of(features.interaction, features, [SegmentRule("s", source)]).get("s")


def test_every_source_has_its_value():
    assert value("model", model=" GPT-X ") == "gpt-x"
    assert value("prompt_version", prompt_version="v2") == "v2"
    assert value("finish_reason", finish_reason="stop") == "stop"
    assert value("attributes.plan", attributes={"plan": "Pro"}) == "pro"
    assert value("attributes.a.b", attributes={"a.b": "x"}) == "x"
    assert value("language") == "en"


@pytest.mark.parametrize(("earlier", "turn"), [(0, "1"), (1, "2"), (8, "9"), (9, "10+"), (500, "10+")])
def test_turns_are_counted_by_what_the_user_said(earlier, turn):
    history = tuple(Turn(role, "x") for _ in range(earlier) for role in ("user", "assistant"))
    assert value("turn", history=history) == turn


def test_no_value_no_slice():
    assert value("model") is None
    assert value("model", model="  \t ") is None
    assert value("attributes.plan", attributes={"other": "x"}) is None


@given(st.text(max_size=300))
def test_values_are_short_and_folded(text):
    found = value("attributes.plan", attributes={"plan": text})
    if found is None:
        assert not text.strip()
    else:
        assert 0 < len(found) <= 64
        assert is_plain(found)


@pytest.mark.parametrize(
    "source", ["model", "prompt_version", "finish_reason", "turn", "language", "attributes.x"]
)
def test_known_sources_are_accepted(source):
    check_source(source)


@pytest.mark.parametrize("source", ["", "prompt", "user", "attributes", "attributes.", "Model", "__class__"])
def test_unknown_sources_are_refused_with_what_there_is(source):
    with pytest.raises(ValueError, match=r"unknown segment source .*; known: .*attributes\.<key>"):
        check_source(source)


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "\x1b[31mred",
        "a\x00b",
        "pro\u202egnp",
        "x\u200by",
        "\ud800",
        "a\nb",
        "a\tb",
        "[bold]x",
        "{{7*7}}",
        "'; DROP TABLE signals",
        "=1+1",
        "a@example.org",
        "x" * 65,
        "\u3164",
        "z\u0335\u0336",
        "pro=all",
        "%s",
        "`id`",
        "\ufeffpro",
        "$(id)",
        "\N{PILE OF POO}",
    ],
)
def test_what_must_not_be_shown_is_other(hostile):
    assert value("attributes.plan", attributes={"plan": hostile}) == "other"


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        ("Pro+ (EU)", "other"),
        ("EU/West 1", "eu/west 1"),
        ("MU\u0308NCHEN", "münchen"),
        ("日本", "日本"),
        ("Ｐｒｏ", "pro"),
        ("v1.2:a_b-c", "v1.2:a_b-c"),
        ("x" * 64, "x" * 64),
    ],
)
def test_plain_values_of_any_script_are_kept(given_value, kept):
    assert value("attributes.plan", attributes={"plan": given_value}) == kept
