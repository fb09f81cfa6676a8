"""Redelivery, crashes, failing receivers in any order, over real HTTP: one effective move, one notice each.

A crash is a BaseException thrown before or after any commit, or after the gateway applied a call; the next
machine opens the same ledger file. The gateway and the pager keep the published contracts.
"""

import asyncio
import itertools
from collections import Counter
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.records import Decision, Release, Signal, StreamKey
from streams.checks.standard_webhooks import StandardWebhooks
from streams.notifiers.webhook import Webhook as Pager
from streams.response import Ledger, ResponseMachine
from streams.response.ledger import STEPS
from streams.rollbacks.webhook import Webhook as Gateway
from streams.settings import ActSettings

MINUTE = 60_000
START = 1_700_000_040_000
LIVE = ActSettings(dry_run=False, max_attempts=4)
NUMBERS = itertools.count()

# A process that dies while it connects leaves the network library's own coroutine behind.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'connect_tcp")


class Crash(BaseException):
    """The process died here."""


class MortalLedger(Ledger):
    """A ledger whose process dies at the n-th transaction from now, before or after its commit."""

    def __init__(self, url):
        self.left, self.after = None, False
        super().__init__(url)

    def die_in(self, count, *, after):
        self.left, self.after = count, after

    def _counted(self):
        if self.left is not None:
            self.left -= 1
        return self.left == 0

    @contextmanager
    def begin(self):
        dying = self._counted()
        with super().begin() as transaction:
            yield transaction
            if dying and not self.after:
                raise Crash
        if dying:
            raise Crash


class MortalGateway:
    """A target whose caller dies right after the gateway applied the move."""

    name = "webhook"

    def __init__(self, target):
        self.target, self.dying = target, False

    async def current(self, deployment):
        return await self.target.current(deployment)

    async def rollback(self, move):
        receipt = await self.target.rollback(move)
        if self.dying:
            raise Crash
        return receipt


class World:
    def __init__(self, path, fake):
        self.number = next(NUMBERS)
        self.deployment = f"support-{self.number}"
        self.url, self.fake = f"sqlite:///{path}/ledger-{self.number}.db", fake
        fake.clear()
        fake.shares[self.deployment] = {"2.3": 0.8, "2.4": 0.2}
        self.now_ms, self.ledger, self.crashes = START, None, 0
        self.records = list(self._records())
        self.restart()

    def _records(self):
        yield Release(deployment=self.deployment, release="2.3", role="stable", started_at_ms=0)
        yield Release(deployment=self.deployment, release="2.4", role="candidate", started_at_ms=1)
        for number, verbs in enumerate([("page", "rollback"), ("page", "rollback"), ("page",)]):
            yield Decision(
                decision_id=f"{self.deployment}-{number}",
                deployment=self.deployment,
                release="2.4",
                cause="release",
                verbs=verbs,
                reason="worse",
                rule="regression",
                at_ms=START,
                summary="worse",
                metric="refusal",
                segment="all",
            )

    def restart(self):
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = MortalLedger(self.url)
        networks = {"secret_file": self.fake.secret_file, "allow_networks": ("127.0.0.0/8",)}
        target = Gateway(url=f"{self.fake.url}/rollback", state_url=f"{self.fake.url}/state", **networks)
        self.target = MortalGateway(target)
        self.machine = ResponseMachine(
            ledger=self.ledger,
            notifiers={"pager": Pager(url=f"{self.fake.url}/pager", **networks)},
            targets={"*": self.target},
            settings=LIVE,
            clock=lambda: self.now_ms,
        )

    def alive(self, work):
        """Do `work`; if the process dies in it, start the next one."""
        try:
            return work()
        except Crash:
            self.crashes += 1
            return self.restart()

    def feed(self, back, count):
        """Deliver `count` records from `back` before the stored position on."""
        first = max(0, self.machine.position(0) - back)
        batch = list(enumerate(self.records[first : first + count], first))
        self.machine.ingest(0, first, batch)

    def step(self):
        asyncio.run(self.machine.step())

    def do(self, action):
        kind, first, second = action
        if kind == "feed":
            self.alive(lambda: self.feed(first, second))
        elif kind == "step":
            self.alive(self.step)
        elif kind == "wait":
            self.now_ms += first * 20_000
        elif kind == "fault":
            self.fake.fail(first, {"retry-after": "3"}, applied=second)
        elif kind == "die":
            self.ledger.die_in(first, after=second)
        elif kind == "die_after_call":
            self.target.dying = True
        elif kind == "restart":
            self.restart()

    def settle(self):
        """Let the faults end, feed everything, serve healthy traffic, go on until nothing is left to do."""
        self.fake.clear_faults()
        self.restart()
        self.feed(len(self.records), 2 * len(self.records))
        for round_number in range(1, 60):
            if self.is_idle():
                break
            self.now_ms += 60_000
            self.step()
            offset = self.machine.position(0)
            signals = self.bucket(round_number)
            self.machine.ingest(0, offset, list(enumerate(signals, offset)))
        return self.machine.acts()

    def is_idle(self):
        waiting = [one for one in self.machine.notices() if one.state == "pending"]
        return not waiting and all(one.state in {"ROLLED_BACK", "FAILED"} for one in self.machine.acts())

    def bucket(self, number):
        shares = self.fake.shares[self.deployment]
        metrics = [("2.3", "served_share", "share", shares.get("2.3", 0.0), None)]
        metrics += [("2.4", "served_share", "share", shares.get("2.4", 0.0), None)]
        metrics += [("2.3", "refusal", "reference", 0.1, 0.1)]
        for release, metric, test, mean, baseline in metrics:
            key = StreamKey(self.deployment, release, "all", metric, test)
            yield Signal(
                signal_id=f"{key}-{number}",
                kind="status",
                stream=key,
                at_ms=self.now_ms,
                n=150,
                mean=mean,
                baseline=baseline,
                direction="lower",
            )


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    server = StandardWebhooks(directory=str(tmp_path_factory.mktemp("fake")))
    yield server
    server.stop()


def check(world):
    """The promises that hold whatever happened on the way."""
    moves = [one for one in world.fake.moves if one["deployment"] == world.deployment]
    assert len(moves) <= 1
    trail = [action for _, action in world.machine.transitions_after(0)]
    assert [one.seq for one in trail] == list(range(len(trail)))
    assert trail[0].state == "DECIDED"
    for before, after in itertools.pairwise(trail):
        assert after.state in STEPS[before.state]
    assert len(world.machine.acts()) == 1
    assert [one.outcome for one in world.machine.rulings()] == ["rollback", "already_acting", "page"]

    told = Counter()
    for body in world.fake.bodies:
        message = msgspec.json.decode(body)
        if message["type"] != "plumbline.rollback":
            told[message["data"]["notice_id"]] += 1
    rows = world.machine.notices()
    assert all(count == 1 for count in told.values())
    assert {one.notice.notice_id for one in rows if one.state == "sent"} <= set(told)
    assert not [one for one in rows if one.state == "pending"]
    pairs = Counter((one.notice.decision.decision_id, one.notice.transition, one.channel) for one in rows)
    assert sorted(pairs.values()) == [1, 1, 1, 1]


def test_a_crash_at_every_transaction_ends_in_one_verified_rollback(fake, tmp_path):
    crashes = 0
    for count, after in itertools.product(range(1, 26), (False, True)):
        world = World(tmp_path, fake)
        world.do(("feed", 0, 9))
        world.do(("die", count, after))
        for _ in range(4):
            world.do(("step", 0, 0))
            world.do(("wait", 3, 0))
        acts = world.settle() if count % 5 == 0 else None
        crashes += world.crashes
        if acts is not None:
            assert [(one.state, one.reason) for one in acts] == [("ROLLED_BACK", "recovered")]
            check(world)
            assert len([one for one in fake.moves if one["deployment"] == world.deployment]) == 1
        else:
            assert len([one for one in fake.moves if one["deployment"] == world.deployment]) <= 1
        world.ledger.close()
    assert crashes > 20


def test_a_call_that_was_applied_by_a_process_that_died_is_found_done(fake, tmp_path):
    world = World(tmp_path, fake)
    world.do(("feed", 0, 9))
    world.do(("step", 0, 0))
    world.do(("die_after_call", 0, 0))
    world.do(("step", 0, 0))
    assert world.crashes == 1
    assert world.machine.acts()[0].state == "EXECUTING"
    world.do(("wait", 3, 0))
    world.do(("step", 0, 0))
    assert (world.machine.acts()[0].state, world.machine.acts()[0].reason) == ("VERIFYING", "moved")
    assert [one.state for one in world.settle()] == ["ROLLED_BACK"]
    check(world)


ACTIONS = st.one_of(
    st.tuples(st.just("feed"), st.integers(0, 5), st.integers(1, 5)),
    st.tuples(st.just("step"), st.just(0), st.just(0)),
    st.tuples(st.just("step"), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("fault"), st.sampled_from([302, 400, 409, 410, 429, 500, 503]), st.booleans()),
    st.tuples(st.just("die"), st.integers(1, 8), st.booleans()),
    st.tuples(st.just("die_after_call"), st.just(0), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(ACTIONS, min_size=4, max_size=25))
def test_any_interleaving(fake, tmp_path, actions):
    world = World(tmp_path, fake)
    world.do(("feed", 0, 4))
    for action in actions:
        world.do(action)
    acts = world.settle()
    assert acts[0].state in {"ROLLED_BACK", "FAILED"}
    check(world)
    world.ledger.close()
