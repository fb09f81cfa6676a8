"""What every rollback target must do, whoever it talks to."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from detectors.records import Decision, Release
from detectors.records.codec import Record
from streams.checks import FakeReceiver, require
from streams.checks.notifier_checks import outcome_of
from streams.response import Ledger, ResponseMachine
from streams.rollbacks import Move, Permanent, RollbackTarget
from streams.settings import ActSettings

BAD, GOOD, DEPLOYMENT = "2.4", "2.3", "support"

RollbackCheck = Callable[[type[Any], FakeReceiver], Awaitable[None]]


def sample_move(*, action_id: str = "action-1", from_release: str = BAD) -> Move:
    """Return the move from the bad release to the good one."""
    return Move(
        action_id=action_id, deployment=DEPLOYMENT, from_release=from_release, to_release=GOOD, reason="worse"
    )


def _begin(part: type[Any], fake: FakeReceiver) -> RollbackTarget:
    fake.shares[DEPLOYMENT] = {GOOD: 0.8, BAD: 0.2}
    target: RollbackTarget = part.example(url=fake.url, secret_file=fake.secret_file)
    return target


async def check_current(part: type[Any], fake: FakeReceiver) -> None:
    """The shares are those that are served, before and after a move."""
    target = _begin(part, fake)
    before = await target.current(DEPLOYMENT)
    require(before.shares == {GOOD: 0.8, BAD: 0.2}, f"served: {before.shares}")
    receipt = await target.rollback(sample_move())
    require(receipt.accepted, "the move was not accepted")
    after = await target.current(DEPLOYMENT)
    require(after.shares.get(GOOD) == 1.0, f"served after the move: {after.shares}")
    require(after.shares.get(BAD, 0.0) == 0.0, "the bad release still serves")


async def check_status_table(part: type[Any], fake: FakeReceiver) -> None:
    """Every status ends in its verdict, for a move and for a look; no redirect is followed."""
    for number, (status, verdict) in enumerate(fake.verdicts.items()):
        target = _begin(part, fake)
        before = len(fake.received)
        headers = {"location": f"{fake.url}/elsewhere"} if 300 <= status < 400 else None
        fake.fail(status, headers)
        move = sample_move(action_id=f"action-{number}")
        found = await outcome_of(target.rollback(move), fake.secret, repr(target), str(target))
        require(found == verdict, f"move, status {status}: {found}, not {verdict}")
        if verdict != "accepted":
            fake.fail(status, headers)
            found = await outcome_of(target.current(DEPLOYMENT), fake.secret)
            require(found == verdict, f"look, status {status}: {found}, not {verdict}")
        wanted = before + (1 if verdict == "accepted" else 2)
        require(len(fake.received) == wanted, f"status {status}: a request too many or too few")


async def check_same_id_twice(part: type[Any], fake: FakeReceiver) -> None:
    """The same action again has no second effect, even if the first answer was lost."""
    target = _begin(part, fake)
    fake.fail(500, applied=True)
    first = await outcome_of(target.rollback(sample_move()), fake.secret)
    second = await outcome_of(target.rollback(sample_move()), fake.secret)
    require((first, second) == ("retryable", "accepted"), f"verdicts: {first}, {second}")
    require(len(fake.effects) == 1, f"{len(fake.effects)} effects of one action")


async def check_superseded(part: type[Any], fake: FakeReceiver) -> None:
    """A release that no longer serves is not moved away from: permanent, ``superseded``, no effect."""
    target = _begin(part, fake)
    try:
        await target.rollback(sample_move(from_release="1.0"))
    except Permanent as verdict:
        require(str(verdict) == "superseded", f"verdict: {verdict}")
    else:
        require(False, "a conflict was accepted")
    require(not fake.effects, "a conflict had an effect")


async def check_timeout(part: type[Any], fake: FakeReceiver) -> None:
    """A target that never answers is retryable, not a hang."""
    target = _begin(part, fake)
    fake.hang(True)
    try:
        move = await outcome_of(target.rollback(sample_move()), fake.secret)
        look = await outcome_of(target.current(DEPLOYMENT), fake.secret)
    finally:
        fake.hang(False)
    require((move, look) == ("retryable", "retryable"), f"silence: {move}, {look}")


async def check_unreachable(part: type[Any], fake: FakeReceiver) -> None:
    """A target that is away is retryable."""
    target = _begin(part, fake)
    fake.stop()
    found = await outcome_of(target.rollback(sample_move()), fake.secret, repr(target))
    require(found == "retryable", f"nobody there: {found}")


async def check_dry_run(part: type[Any], fake: FakeReceiver) -> None:
    """Behind a machine in dry run no call is made at all."""
    target = _begin(part, fake)
    ledger = Ledger("sqlite://")
    machine = ResponseMachine(
        ledger=ledger,
        notifiers={},
        targets={"*": target},
        settings=ActSettings(dry_run=True),
        clock=lambda: 0,
    )
    declared: list[Record] = [
        Release(deployment=DEPLOYMENT, release=GOOD, role="stable", started_at_ms=0),
        Release(deployment=DEPLOYMENT, release=BAD, role="candidate", started_at_ms=1),
    ]
    machine.ingest(0, 0, list(enumerate([*declared, _sample_decision()])))
    for _ in range(4):
        await machine.step()
    states = [(action.state, action.dry_run) for action in machine.acts()]
    ledger.close()
    require(states == [("DECIDED", True)], f"acts: {states}")
    require(not fake.received, "a dry run made a call")


def _sample_decision() -> Decision:
    return Decision(
        decision_id="decision-1",
        deployment=DEPLOYMENT,
        release=BAD,
        cause="release",
        verbs=("page", "rollback"),
        reason="worse",
        rule="regression",
        at_ms=0,
        summary="worse than stable",
        metric="refusal",
        segment="all",
    )


CHECKS: Final[tuple[RollbackCheck, ...]] = (
    check_current,
    check_status_table,
    check_same_id_twice,
    check_superseded,
    check_timeout,
    check_unreachable,
    check_dry_run,
)
