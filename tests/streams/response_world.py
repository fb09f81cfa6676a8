"""A scripted world around the response machine: its target, its pager, and what it is told."""

import asyncio

from detectors.records import Decision, Release, Signal, StreamKey
from streams.response import Ledger, ResponseMachine
from streams.rollbacks import Receipt, Served
from streams.settings import ActSettings

MINUTE = 60_000
START = 1_700_000_040_000
LIVE = ActSettings(dry_run=False)


class Target:
    """A routing table in memory; `script` holds what the next calls do."""

    name = "memory"

    def __init__(self, shares=None):
        self.shares = {"2.3": 0.8, "2.4": 0.2} if shares is None else shares
        self.moves, self.looks, self.script = [], 0, []

    def _fault(self):
        fault = self.script.pop(0) if self.script else None
        if isinstance(fault, BaseException):
            raise fault
        return fault

    async def current(self, deployment):
        self.looks += 1
        await asyncio.sleep(0)  # others run meanwhile, as they do during a real call
        self._fault()
        return Served(shares=dict(self.shares), generation="7")

    async def rollback(self, move):
        self.moves.append(move)
        await asyncio.sleep(0)
        if self._fault() == "refuse":
            return Receipt(accepted=False)
        self.shares = {move.to_release: 1.0}
        return Receipt(accepted=True, detail={"status": 200})


class Pager:
    name = "pager"

    def __init__(self):
        self.got, self.script = [], []

    async def notify(self, notice):
        fault = self.script.pop(0) if self.script else None
        await asyncio.sleep(0)
        if fault is not None:
            raise fault
        self.got.append((notice.transition, notice.summary, notice.notice_id))


class World:
    """One ledger, one target, one pager and a clock that is moved by hand."""

    def __init__(self, path, settings=LIVE, targets=None, shares=None):
        self.url, self.settings = f"sqlite:///{path}/ledger.db", settings
        self.target, self.pager, self.now_ms, self.offset = Target(shares), Pager(), START, 0
        self.targets = {"*": self.target} if targets is None else targets
        self.restart()

    def restart(self):
        self.machine = ResponseMachine(
            ledger=Ledger(self.url),
            notifiers={"pager": self.pager},
            targets=self.targets,
            settings=self.settings,
            clock=lambda: self.now_ms,
        )

    def tell(self, *records):
        first = self.offset
        self.offset += len(records)
        return self.machine.ingest(0, first, list(enumerate(records, first)))

    def step(self, times=1):
        for _ in range(times):
            asyncio.run(self.machine.step())
        return self.states()

    def states(self):
        return [(one.state, one.reason) for one in self.machine.acts()]

    def told(self):
        return [transition for transition, _, _ in self.pager.got]


def release(name, role, at_ms=0):
    return Release(deployment="support", release=name, role=role, started_at_ms=at_ms)


def decision(number=1, **changed):
    values = {
        "decision_id": f"decision-{number}",
        "deployment": "support",
        "release": "2.4",
        "cause": "release",
        "verbs": ("page", "rollback"),
        "reason": "worse_than_stable",
        "rule": "regression",
        "at_ms": START,
        "summary": "support 2.4: the refusal rate is worse.",
        "metric": "refusal",
        "segment": "all",
        "baseline": 0.1,
    }
    return Decision(**{**values, **changed})


def status(  # noqa: PLR0917 - a row of a table
    minute, test, name, mean, n=500, direction="lower", baseline=None, metric="refusal", segment="all"
):
    key = StreamKey("support", name, segment, "served_share" if test == "share" else metric, test)
    return Signal(
        signal_id=f"{key}-{minute}",
        kind="status",
        stream=key,
        at_ms=START + minute * MINUTE,
        n=n,
        mean=mean,
        baseline=baseline,
        direction=direction,
    )


def bucket(minute, bad_share, mean=0.1):
    return [
        status(minute, "share", "2.4", bad_share),
        status(minute, "share", "2.3", 1 - bad_share),
        status(minute, "reference", "2.3", mean),
        status(minute, "reference", "2.3", 1.0, segment="region=eu"),
        status(minute, "reference", "2.3", 1.0, metric="tone"),
        status(minute, "reference", "2.4", 1.0),
    ]


DECLARED = (release("2.3", "stable"), release("2.4", "candidate", 5))
