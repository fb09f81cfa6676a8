"""Hostile text costs work in proportion to its length, and redacting it twice changes nothing."""

import random
import time

import pytest

from detectors.redaction import Redactor

CHARACTERS = 100_000
REDACTOR = Redactor()


def drawn(alphabet, count):
    """Return one drawn block over and over, so that a longer text holds nothing that a shorter one lacks."""
    block = "".join(random.Random(7).choices(alphabet, k=2_000))
    return block * (count // len(block))


def repeated(unit):
    return lambda count: unit * (count // len(unit))


HOSTILE = {
    "fours": repeated("4 "),
    "spaced digits": lambda count: " ".join(drawn("0123456789", count // 2)),
    "dashed digits": lambda count: "-".join(drawn("0123456789", count // 2)),
    "digits and spaces": lambda count: drawn("0123456789 ", count),
    "dotted ones": repeated("1."),
    "addresses": repeated("10.1.2.3 "),
    "mail": repeated("a@b.co "),
    "password": repeated("password: x "),
    "passwords": repeated("password: hunter22 "),
    "keys": repeated("sk-"),
    "keys that uncover the next": repeated("AIza" + "a1" * 17 + "b"),
    "base64": lambda count: drawn("ABCDEFabcdefghij0123456789+/", count),
    "brackets": repeated("[("),
    "quotes": repeated('"'),
    "everything": lambda count: drawn("0123456789 -.()+:@aF[]", count),
}


def cpu_seconds(text):
    took = []
    for _ in range(3):
        began = time.process_time()
        REDACTOR.redact(text, "prompt")
        took.append(time.process_time() - began)
    return min(took)


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_text_is_about_twice_the_work(name):
    make = HOSTILE[name]
    REDACTOR.redact(make(1_000), "prompt")
    # 10 ms more are noise, not growth: some of these take one.
    assert cpu_seconds(make(2 * CHARACTERS)) < 3.2 * cpu_seconds(make(CHARACTERS)) + 0.01


@pytest.mark.parametrize("name", HOSTILE)
def test_redacting_long_hostile_text_twice_changes_nothing(name):
    once, redactions = REDACTOR.redact(HOSTILE[name](20_000), "prompt")
    assert REDACTOR.redact(once, "prompt") == (once, ())
    assert all(once[r.start : r.end] == f"[{r.kind}]" for r in redactions)


def test_a_long_run_of_figures_in_which_a_card_was_found_is_taken_whole():
    run = " ".join(drawn("0123456789", 2_000))
    once, redactions = REDACTOR.redact(f"Hello, {run} and goodbye.", "prompt")
    assert once.startswith("Hello, ")
    assert once.endswith(" and goodbye.")
    assert len(redactions) > 1
    assert sum(map(str.isdigit, once)) < 1_000
