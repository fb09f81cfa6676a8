"""Drives the demonstration: traffic over HTTP in the order of event time, a release, and what follows."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from detectors.records import Action, Decision, Signal, SignalKind
from detectors.worlds import Question, Serving, SupportWorld
from detectors.worlds.support_answers import HEALTHY, REGRESSED
from plumbline.client import Client
from streams.demo.gateway import Gateway
from streams.demo.outcome import CANDIDATE, STABLE, Mode, Outcome, judge_outcome
from streams.demo.story import Story

BATCH = 100
MEAN_TURNS = 1.45
TERMINAL = ("ROLLED_BACK", "FAILED")
SETTLE_S = 10.0


class Monitor(Protocol):
    """The running monitor, as far as the demonstration must see it."""

    door_url: str
    page_url: str

    async def wait_idle(self) -> None:
        """Return when everything that the door accepted has been scored, decided on and acted on."""
        ...

    def acts(self) -> list[Action]:
        """Return every transition of every act so far, oldest first."""
        ...

    def decisions(self) -> list[Decision]:
        """Return every decision so far, oldest first."""
        ...

    def signals(self, kind: SignalKind) -> list[Signal]:
        """Return every signal of `kind` so far, oldest first."""
        ...


class Plan(Struct, frozen=True, kw_only=True):
    """What is going to happen; counts are conversations.

    Parameters
    ----------
    mode
        See :func:`~streams.demo.outcome.judge_outcome`.
    seed
        Of the traffic and of the routing.
    start_ms
        Event time of the first conversation, in Unix milliseconds.
    rate_per_s
        New conversations a second of event time.
    before
        Answered by 2.3 alone, so that normal is known.
    candidate
        At most so many while 2.4 serves.
    after
        At most so many after a move, to verify that it helped.
    share
        Of the traffic, for the canary.
    ahead
        So many interactions are sent before the monitor is waited for, so that it acts at the same point
        of the traffic on a slow machine and on a fast one.
    speed
        How much faster than the wall clock event time runs; None: as fast as the door accepts.
    """

    mode: Mode = "canary"
    seed: int = 7
    start_ms: int
    rate_per_s: float = 2.0
    before: int = 2_500
    candidate: int = 3_500
    after: int = 1_000
    share: float = 0.2
    ahead: int = 500
    speed: float | None = None

    @property
    def candidate_at_ms(self) -> int:
        """Event time at which 2.4 begins to serve."""
        return self.start_ms + int(self.before / self.rate_per_s * 1000)

    @property
    def span_ms(self) -> int:
        """The longest stretch of event time that the traffic can cover, in milliseconds."""
        return int((self.before + self.candidate + self.after) / self.rate_per_s * 1000)

    @property
    def interactions(self) -> int:
        """About how many interactions there will be until a move; for a progress bar."""
        return int((self.before + self.candidate) * MEAN_TURNS)


class Traffic:
    """Sends the world's interactions, asking the gateway for each at the moment of sending.

    Blocking; meant for one worker thread at a time.

    Parameters
    ----------
    plan
        What is going to happen.
    client
        Speaks with the door.
    gateway
        Routes; its table is changed here when the release begins.
    """

    def __init__(self, plan: Plan, client: Client, gateway: Gateway) -> None:
        self._plan = plan
        self._client = client
        self._gateway = gateway
        self._deployment = "support"
        world = SupportWorld(
            seed=plan.seed, start_ms=plan.start_ms, rate_per_s=plan.rate_per_s, deployment=self._deployment
        )
        self._records: Iterator[dict[str, Any]] = world.submissions(self._serve)
        self._batch: list[dict[str, Any]] = []
        self.began = False
        self.sent = 0
        self.sent_by_candidate = 0
        self.refused = 0
        self.conversations = 0
        self.now_ms = plan.start_ms

    def declare_stable(self) -> None:
        """Tell the door that 2.3 is the release everybody trusts."""
        self._declare(STABLE, "stable", self._plan.start_ms)

    def send_some(self) -> None:
        """Send one batch."""
        while len(self._batch) < BATCH:
            self._batch.append(next(self._records))
        self._flush()

    def _flush(self) -> None:
        verdicts = self._client.send(self._batch) if self._batch else []
        self.sent += sum(verdict.verdict == "accepted" for verdict in verdicts)
        self.refused += sum(verdict.verdict == "refused" for verdict in verdicts)
        self.sent_by_candidate += sum(record["release"] == CANDIDATE for record in self._batch)
        self._batch = []

    def _serve(self, question: Question) -> Serving:
        """Answer the world's question who serves; begin the release when its moment has come."""
        self.now_ms = question.event_time_ms
        if not self.began and question.event_time_ms >= self._plan.candidate_at_ms:
            self._begin_candidate()
        self.conversations += question.turn == 1
        release = self._gateway.route(question.conversation)
        worse = release == CANDIDATE and self._plan.mode != "healthy"
        behaviour = REGRESSED if worse else HEALTHY
        share = self._gateway.shares.get(release, 0.0)
        if not 0.0 < share < 1.0:
            return Serving(release=release, behaviour=behaviour)
        arm = "canary" if release == CANDIDATE else "stable"
        return Serving(release=release, behaviour=behaviour, arm=arm, share=share)

    def _begin_candidate(self) -> None:
        """Send what is earlier, declare the release, then let it serve: nobody sees it undeclared."""
        self._flush()
        self.began = True
        at_ms = self._plan.candidate_at_ms
        if self._plan.mode == "in_place":
            self._declare(STABLE, "retired", at_ms)
            self._declare(CANDIDATE, "stable", at_ms)
            self._gateway.set_shares({STABLE: 0.0, CANDIDATE: 1.0})
        else:
            self._declare(CANDIDATE, "candidate", at_ms, share=self._plan.share)
            self._gateway.set_shares({STABLE: 1.0 - self._plan.share, CANDIDATE: self._plan.share})

    def _declare(self, release: str, role: Any, at_ms: int, *, share: float | None = None) -> None:
        verdict = self._client.declare_release(
            deployment=self._deployment, release=release, role=role, started_at=at_ms, share=share
        )
        if verdict.verdict == "refused":
            raise RuntimeError(f"the door refused to declare {release}: {verdict.code}")


async def drive(
    plan: Plan, monitor: Monitor, gateway: Gateway, story: Story, *, connect: Callable[[str], Client] = Client
) -> Outcome:
    """Run `plan` against `monitor` and return whether it ended as it must.

    The traffic stops as soon as the act is terminal; in the other modes when the planned traffic is over (in
    place: when a page has named the release). `connect` opens the client of the door.

    Raises
    ------
    plumbline.client.ClientError
        If the door cannot be reached any more.
    """
    story.begin(plan.mode, seed=plan.seed, page_url=monitor.page_url)
    with connect(monitor.door_url) as client:
        traffic = Traffic(plan, client, gateway)
        await asyncio.to_thread(traffic.declare_stable)
        await _flow(plan, monitor, gateway, story, traffic)
    await _settle(monitor)
    _tell(monitor, gateway, story, traffic)
    outcome = judge_outcome(plan.mode, monitor.decisions(), monitor.acts(), gateway.log, gateway.pages)
    story.end(outcome.ok, outcome.reasons, refused=traffic.refused, decisions=monitor.decisions())
    return outcome


async def _flow(plan: Plan, monitor: Monitor, gateway: Gateway, story: Story, traffic: Traffic) -> None:
    loop = asyncio.get_running_loop()
    began_s, moved_at, waited_at = loop.time(), None, 0
    limit = plan.before + plan.candidate
    while traffic.conversations < limit and not _is_over(plan, monitor, gateway):
        await asyncio.to_thread(traffic.send_some)
        if traffic.sent - waited_at >= plan.ahead:
            waited_at = traffic.sent
            await monitor.wait_idle()
        _tell(monitor, gateway, story, traffic)
        if moved_at is None and any(entry.kind == "move" for entry in gateway.log):
            moved_at = traffic.conversations
            limit = moved_at + plan.after
        if plan.speed is not None:
            due_s = began_s + (traffic.now_ms - plan.start_ms) / 1000 / plan.speed
            await asyncio.sleep(max(0.0, due_s - loop.time()))


async def _settle(monitor: Monitor) -> None:
    """Let the response side finish what the traffic already allows: a slow machine may be a step behind."""
    until_s = asyncio.get_running_loop().time() + SETTLE_S
    await monitor.wait_idle()
    while _begun(monitor) - _ended(monitor):
        if asyncio.get_running_loop().time() > until_s:
            return
        await asyncio.sleep(0.05)
        await monitor.wait_idle()


def _begun(monitor: Monitor) -> set[str]:
    return {act.action_id for act in monitor.acts() if act.kind == "rollback"}


def _ended(monitor: Monitor) -> set[str]:
    return {act.action_id for act in monitor.acts() if act.kind == "rollback" and act.state in TERMINAL}


def _is_over(plan: Plan, monitor: Monitor, gateway: Gateway) -> bool:
    if plan.mode == "in_place":
        return any(page.release == CANDIDATE for page in gateway.pages)
    if plan.mode == "healthy":
        return False
    return bool(_ended(monitor))


def _tell(monitor: Monitor, gateway: Gateway, story: Story, traffic: Traffic) -> None:
    story.progress(sent=traffic.sent, by_candidate=traffic.sent_by_candidate, now_ms=traffic.now_ms)
    if traffic.began:
        story.candidate_began(gateway.log[1].shares if len(gateway.log) > 1 else gateway.shares)
    changes: Sequence[Signal] = monitor.signals("change")
    story.signals(changes)
    story.decisions(monitor.decisions())
    story.pages(gateway.pages)
    story.response(monitor.acts(), gateway.log)
