"""What a page says: what is worse, what was done or why nothing was, and where to look."""

from urllib.parse import parse_qs, urlsplit

import pytest

from streams.response.eligibility import plan
from streams.response.wording import REASONS, page_links
from streams.settings import ActSettings
from tests.streams.response_world import DECLARED, World, decision, release

NUMBERS = {"effect": 0.08, "low": 0.03, "high": 0.13, "n": 332, "began_at_ms": 1_700_000_000_000}


def paged(tmp_path, *records, **act) -> str:
    world = World(tmp_path, settings=ActSettings(dry_run=act.pop("dry_run", False), **act))
    world.tell(*records)
    world.step(1)
    return world.pager.got[0][1]


@pytest.mark.parametrize(
    ("declared", "changes", "dry_run", "told"),
    [
        (DECLARED, {}, False, "is WORSE than 2.3: refusal 10.0 % -> 18.0 % (+3.0 to +13.0 points, 332 "),
        (DECLARED, {}, False, " A rollback to 2.3 has begun."),
        (DECLARED, {}, True, " DRY RUN, nothing was changed: would have rolled back to 2.3."),
        (DECLARED, {"verbs": ("page",)}, False, " Not rolled back: nobody permitted it (page only)."),
        (DECLARED[1:], {}, False, " Not rolled back: no stable release is declared."),
        (DECLARED, {"cause": "common"}, False, " Not rolled back: stable traffic moved too."),
        ((release("2.3", "stable"),), {}, False, " Not rolled back: this release is not declared a "),
    ],
)  # fmt: skip
def test_a_page_says_what_is_worse_and_what_was_done(tmp_path, declared, changes, dry_run, told):
    text = paged(tmp_path, *declared, decision(**{**NUMBERS, **changes}), dry_run=dry_run)
    assert told in text
    assert text.startswith("support 2.4 ")
    assert "since 22:13 UTC." in text


def test_every_outcome_has_its_words():
    outcomes = {
        plan(decision(), {}, has_target=True).outcome,
        "page",
        "rollback",
        "dry_run",
        "already_acting",
    }
    assert outcomes <= REASONS.keys()


def test_no_text_of_a_client_is_in_a_page(tmp_path):
    text = paged(tmp_path, *DECLARED, decision(**NUMBERS, segment="plan=<b>\x1b[31m"))
    assert "refusal in plan=(withheld) 10.0 %" in text


def test_a_page_links_to_its_own_decision():
    one = decision(deployment="a/b+c")
    link = urlsplit(page_links("https://plumbline.example/x/", one)["page"])
    assert (link.netloc, link.path, link.fragment) == (
        "plumbline.example",
        "/x/",
        f"decision-{one.decision_id}",
    )
    assert parse_qs(link.query) == {"deployment": ["a/b+c"], "to_ms": [str(one.at_ms + 3_600_000)]}
    assert page_links("", one) == {}
