"""The machine's own behaviour, with parts that are scripted in memory."""

import asyncio

import pytest

from streams.notifiers import Permanent, Retryable
from streams.response import Ledger
from streams.response.ledger import STEPS
from streams.settings import ActSettings
from tests.streams.response_world import (
    DECLARED,
    LIVE,
    MINUTE,
    Target,
    World,
    bucket,
    decision,
    release,
)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_from_decision_to_verified_rollback(world):
    world.tell(*DECLARED, decision())
    assert world.step() == [("EXECUTING", "intent")]
    assert world.told() == ["DECIDED"]
    assert world.target.looks == 0
    assert world.step() == [("VERIFYING", "accepted")]
    assert [(one.from_release, one.to_release) for one in world.target.moves] == [("2.4", "2.3")]
    for minute in range(1, 5):
        world.tell(*bucket(minute, 0.0))
    world.now_ms += 5 * MINUTE
    assert world.step() == [("ROLLED_BACK", "recovered")]
    world.step()
    assert world.told() == ["DECIDED", "ROLLED_BACK"]
    trail = world.machine.transitions_after(0)
    assert [one.state for _, one in trail] == ["DECIDED", "EXECUTING", "VERIFYING", "ROLLED_BACK"]
    assert [one.seq for _, one in trail] == [0, 1, 2, 3]
    assert world.machine.transitions_after(trail[1][0]) == trail[2:]
    assert {one.action_id for _, one in trail} == {world.target.moves[0].action_id}
    assert len(world.target.moves[0].action_id) == 64


def test_dry_run_is_the_default_and_calls_nobody(tmp_path):
    world = World(tmp_path, settings=ActSettings())
    world.tell(*DECLARED, decision())
    world.step(5)
    act = world.machine.acts()[0]
    assert (act.state, act.reason, act.dry_run) == ("DECIDED", "dry_run", True)
    assert (world.target.looks, world.target.moves) == (0, [])
    assert "DRY RUN, nothing was changed: would have rolled back to 2.3." in world.pager.got[0][1]
    world.settings = LIVE
    world.restart()
    assert world.step(3) == [("DECIDED", "dry_run")]


@pytest.mark.parametrize(
    ("declared", "changed", "outcome"),
    [
        (DECLARED, {"verbs": ("page",)}, "page"),
        (DECLARED, {"cause": "common"}, "common_cause"),
        ((DECLARED[1],), {}, "no_stable_release"),
        ((DECLARED[0],), {}, "not_a_candidate"),
        ((), {}, "not_a_candidate"),
        ((*DECLARED, release("2.2", "stable")), {}, "several_stable_releases"),
        ((*DECLARED, release("2.4", "retired")), {}, "not_a_candidate"),
        ((release("2.3", "retired"), DECLARED[1]), {}, "no_stable_release"),
        (DECLARED, {"release": "2.3"}, "not_a_candidate"),
        (DECLARED, {"deployment": "sales"}, "not_a_candidate"),
    ],
)
def test_what_may_not_act_pages_with_its_reason(world, declared, changed, outcome):
    world.tell(*declared, decision(**changed))
    world.step(4)
    assert [(one.outcome, one.action_id) for one in world.machine.rulings()] == [(outcome, "")]
    assert (world.states(), world.target.looks, world.told()) == ([], 0, ["DECIDED"])


def test_without_a_target_the_page_says_so(tmp_path):
    world = World(tmp_path, targets={"sales": Target()})
    world.tell(*DECLARED, decision())
    world.step(2)
    assert world.machine.rulings()[0].outcome == "no_target"
    assert "no rollback target is configured" in world.pager.got[0][1]


def test_a_second_metric_joins_the_first_act(world):
    world.tell(*DECLARED, decision(1), decision(2, metric="tone"))
    world.step(4)
    assert len(world.machine.acts()) == 1
    assert [one.outcome for one in world.machine.rulings()] == ["rollback", "already_acting"]
    assert len(world.target.moves) == 1
    assert world.told() == ["DECIDED", "DECIDED"]


def test_redelivery_changes_nothing(world):
    records = [*DECLARED, decision()]
    assert world.tell(*records) == 3
    assert world.machine.position(0) == 3
    assert world.machine.position(1) == 0
    assert world.machine.ingest(0, 0, list(enumerate(records))) == 0
    assert world.machine.ingest(0, 2, [(2, records[2]), (3, decision())]) == 1
    assert (world.machine.position(0), len(world.machine.rulings()), len(world.machine.notices())) == (
        4,
        1,
        1,
    )


@pytest.mark.parametrize("offsets", [(1, 0), (0, 0), (-1, 0)])
def test_offsets_must_rise(world, offsets):
    with pytest.raises(ValueError, match="rise"):
        world.machine.ingest(0, 0, [(offset, decision()) for offset in offsets])
    assert world.machine.rulings() == []


def test_a_slow_partition_does_not_put_an_old_role_back(world):
    world.tell(*DECLARED, release("2.4", "retired"))
    world.machine.ingest(1, 0, list(enumerate(DECLARED)))
    world.tell(decision())
    assert world.machine.rulings()[0].outcome == "not_a_candidate"


@pytest.mark.parametrize(
    ("shares", "end", "moves"),
    [
        ({"2.3": 1.0}, ("VERIFYING", "already_moved"), 0),
        ({"2.5": 1.0}, ("FAILED", "superseded"), 0),
        ({"2.3": 0.5, "2.5": 0.5}, ("FAILED", "superseded"), 0),
        ({"2.4": 1.0}, ("VERIFYING", "accepted"), 1),
    ],
)
def test_the_target_is_looked_at_before_it_is_moved(tmp_path, shares, end, moves):
    world = World(tmp_path, shares=shares)
    world.tell(*DECLARED, decision())
    assert world.step(2) == [end]
    assert len(world.target.moves) == moves


def test_a_candidate_that_was_promoted_meanwhile_is_left_alone(world):
    world.tell(*DECLARED, decision())
    world.step()
    world.tell(release("2.4", "stable"), release("2.3", "retired"))
    assert world.step(2) == [("FAILED", "roles_changed")]
    assert world.target.moves == []
    assert world.told() == ["DECIDED", "FAILED"]


def test_retries_wait_as_asked_and_end(world):
    world.tell(*DECLARED, decision())
    world.target.script = [None, Retryable("status 503", after_s=100.0)]
    assert world.step(4) == [("EXECUTING", "intent")]
    assert len(world.target.moves) == 1
    world.now_ms += 99_000
    world.restart()
    assert world.step(2) == [("EXECUTING", "intent")]
    world.target.script = [Retryable("away")] * 100
    for _ in range(12):
        world.now_ms += 1_000_000
        world.step()
    assert world.states() == [("FAILED", "retries_exhausted")]
    assert world.target.looks == LIVE.max_attempts + 1
    world.step()
    assert world.told() == ["DECIDED", "FAILED"]
    assert "A person must look" in world.pager.got[-1][1]


def test_a_move_that_arrived_although_every_answer_was_lost(world):
    world.tell(*DECLARED, decision())
    world.target.script = [None, Retryable("lost")] * LIVE.max_attempts
    for _ in range(LIVE.max_attempts + 1):
        world.step()
        world.now_ms += 1_000_000
    assert world.states() == [("EXECUTING", "intent")]
    world.target.shares = {"2.3": 1.0}
    assert world.step() == [("VERIFYING", "moved")]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([None, Permanent("superseded")], "superseded"),
        ([None, Permanent("status 403")], "refused"),
        ([Permanent("status 404")], "refused"),
        ([None, "refuse"], "refused"),
    ],
)
def test_a_refusal_fails_and_pages(world, script, reason):
    world.tell(*DECLARED, decision())
    world.target.script = script
    assert world.step(2) == [("FAILED", reason)]
    world.step(3)
    assert world.told() == ["DECIDED", "FAILED"]
    assert len(world.target.moves) <= 1


def test_a_broken_part_never_stops_the_machine_and_tells_no_text(world):
    world.tell(*DECLARED, decision())
    world.target.script = [KeyError("hidden")]
    world.pager.script = [ZeroDivisionError("hidden")]
    world.step(2)
    assert world.machine.notices()[0].reason == "broken part: ZeroDivisionError"
    world.now_ms += 100_000
    assert world.step() == [("VERIFYING", "accepted")]
    assert world.told() == ["DECIDED"]
    assert "hidden" not in repr(world.machine.transitions_after(0)) + repr(world.machine.notices())


def test_notices_are_retried_and_can_die(world):
    world.tell(*DECLARED, decision(verbs=("page",)))
    world.pager.script = [Retryable("status 429", after_s=30.0)]
    world.step(3)
    assert [(one.state, one.attempts) for one in world.machine.notices()] == [("pending", 1)]
    world.now_ms += 30_000
    world.step()
    assert [(one.state, one.attempts) for one in world.machine.notices()] == [("sent", 2)]
    world.tell(decision(2, verbs=("page",)))
    world.pager.script = [Permanent("status 410")]
    world.step(3)
    assert [(one.state, one.reason) for one in world.machine.notices()] == [
        ("sent", ""),
        ("dead", "status 410"),
    ]


def test_missing_data_is_failure_and_never_recovery(world):
    world.tell(*DECLARED, decision())
    world.step(2)
    world.now_ms += 899_000
    assert world.step() == [("VERIFYING", "accepted")]
    world.now_ms += 1_000
    assert world.step() == [("FAILED", "not_converged")]


def test_traffic_left_and_the_metric_did_not_come_back(world):
    world.tell(*DECLARED, decision())
    world.step(2)
    for minute in range(1, 125):
        world.tell(*bucket(minute, 0.0, mean=0.4))
    world.now_ms += 119 * MINUTE
    assert world.step() == [("VERIFYING", "accepted")]
    world.now_ms += MINUTE
    assert world.step() == [("FAILED", "not_recovered")]
    world.step()
    assert world.told()[-1] == "FAILED"


def test_no_more_moves_are_made_than_allowed(world):
    world.tell(*DECLARED, decision())
    world.target.script = [None, Retryable("status 503")] * 100
    for _ in range(LIVE.max_attempts + 5):
        world.step()
        world.now_ms += 1_000_000
    assert world.states() == [("FAILED", "retries_exhausted")]
    assert len(world.target.moves) == LIVE.max_attempts
    assert len({one.action_id for one in world.target.moves}) == 1


def test_ids_come_from_content_and_not_from_the_clock(world, tmp_path):
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.now_ms += 12_345
    for one in (world, other):
        one.tell(*DECLARED, decision())
        one.step()
    assert world.pager.got == other.pager.got
    assert world.machine.acts()[0].action_id == other.machine.acts()[0].action_id


def test_two_machines_over_one_ledger_move_once(world):
    world.tell(*DECLARED, decision())
    first = world.machine
    world.restart()

    async def race():
        for _ in range(4):
            await asyncio.gather(first.step(), world.machine.step())

    asyncio.run(race())
    assert len(world.target.moves) == 1
    assert [one.state for _, one in first.transitions_after(0)] == ["DECIDED", "EXECUTING", "VERIFYING"]
    assert world.told() == ["DECIDED"]


def test_a_transition_that_does_not_exist_is_refused(world):
    world.tell(*DECLARED, decision())
    ledger = Ledger(world.url)
    with ledger.begin() as transaction:
        act = ledger.open_acts(transaction)[0]
        for state in set(STEPS) - STEPS["DECIDED"]:
            with pytest.raises(ValueError, match="no transition"):
                ledger.move(transaction, act, state, at_ms=0, reason="", detail={})
        changed = ledger.change(transaction, act, attempts=1)
        assert ledger.change(transaction, act, attempts=2) is None
        assert ledger.move(transaction, act, "EXECUTING", at_ms=0, reason="", detail={}) is None
        assert ledger.move(transaction, changed, "EXECUTING", at_ms=0, reason="", detail={}) is not None
        assert ledger.change(transaction, changed, attempts=9) is None
    ledger.close()


def test_the_ledger_survives_a_power_cut(world):
    ledger = Ledger(world.url)
    with ledger.begin() as transaction:
        assert transaction.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert transaction.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ledger.close()
