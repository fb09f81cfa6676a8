"""What a decision says to somebody half asleep, and what it never says."""

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Decision
from detectors.records.wording import describe_decision, plain_segment

WORSE = Decision(
    decision_id="d", deployment="support", release="2.4", cause="release", verbs=("page", "rollback"),
    reason="canary_worse_than_stable", rule="r", at_ms=1_795_000_600_000, summary="", metric="helpful",
    segment="all", effect=-0.069, low=-0.127, high=-0.025, baseline=0.973, n=332,
    began_at_ms=1_795_000_000_000,
)  # fmt: skip


def said(than: str = "", **changes) -> str:
    return describe_decision(msgspec.structs.replace(WORSE, **changes), than=than)


def test_it_says_what_got_worse_than_what_by_how_much_and_since_when():
    assert said("2.3") == (
        "support 2.4 is WORSE than 2.3: helpful 97.3 % -> 90.4 % "
        "(-2.5 to -12.7 points, 332 conversations or users) since 11:06 UTC."
    )


def test_a_candidate_that_cannot_be_compared_is_not_called_worse():
    text = said("2.3", reason="blind_no_arm_stamped", verbs=("page",), metric="routing", effect=None)
    assert text == "support 2.4 cannot be compared with 2.3: its traffic carries no arm with a share."


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "is WORSE than the stable release: "),
        ({"verbs": ("page",), "reason": "release_worse_than_reference"}, " is WORSE than the reference: "),
        (
            {"verbs": ("page",), "reason": "changed_within_release"},
            "support 2.4 is WORSE than it was when it began: ",
        ),
        (
            {"verbs": ("page",), "reason": "traffic_mix_shift", "cause": "common"},
            "2.4 answers as before, but its traffic moved to where answers were always WORSE: ",
        ),
        ({"verbs": ("page",), "reason": "undeclared_release_worse"}, "2.4, which nobody declared, is WORSE"),
        ({"verbs": ("page",), "cause": "common"}, "and so did its candidate: helpful"),
        ({"segment": "plan=pro"}, ": helpful in plan=pro 97.3 % -> "),
        ({"effect": 0.08, "low": 0.03, "high": 0.13, "baseline": 0.02}, "2.0 % -> 10.0 % (+3.0 to +13.0 p"),
        ({"low": None, "high": None}, "(-6.9 points, 332 "),
        ({"effect": None, "low": None, "high": None, "baseline": None, "n": 0}, ": helpful since 11:06 UTC."),
        ({"began_at_ms": None}, "or users)."),
        ({"began_at_ms": 1_794_900_000_000}, "since 2026-11-17 07:20 UTC."),
        ({"n": 1}, "1 conversation or user)"),
    ],
)  # fmt: skip
def test_each_kind_of_decision_has_its_words(changes, told):
    assert told in said(**changes)


def test_numbers_that_are_none_are_left_out():
    text = said(effect=float("nan"), low=float("nan"), high=float("inf"), baseline=float("-inf"))
    assert "nan" not in text
    assert "inf" not in text


@given(text=st.text(max_size=80))
def test_no_text_of_a_client_passes_unless_it_is_plain(text):
    told = said(than=text, segment=f"plan={text}", release=text, deployment=text, metric=text)
    assert all(unicodedata.category(one)[0] in "LN" or one in "._:/+- =%>(),;" for one in told), told
    assert len(told) < 800


def test_a_value_that_is_not_plain_is_withheld_and_its_name_stays():
    assert plain_segment("plan=<b>\x1b[31m") == "plan=(withheld)"
    assert plain_segment("<b>=x") == "(withheld)=x"
