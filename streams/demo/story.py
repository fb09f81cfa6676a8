"""The demonstration's story in the terminal: what happens, at the moment in which it happens."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from detectors.records import Action, Decision, Signal
from detectors.records.wording import describe_decision, plain_segment
from streams.demo.gateway import LogEntry, Page
from streams.demo.outcome import CANDIDATE, STABLE, Mode
from streams.outgoing import clean

T = TypeVar("T")

_OPENING: dict[Mode, str] = {
    "canary": f"Soon {CANDIDATE} takes a part of the traffic, and it is worse.",
    "healthy": f"Soon {CANDIDATE} takes a part of the traffic, and it is as good.",
    "in_place": f"Soon {CANDIDATE} replaces it in one step, and it is worse.",
}
_ACT_LINES = {
    "DECIDED": "rollback decided: {act.from_release} -> {act.to_release}",
    "EXECUTING": "the gateway is asked to move the traffic",
    "VERIFYING": "the gateway agreed; now watching what is really served, and the metric",
    "ROLLED_BACK": "verified: nothing of {act.from_release} is served any more and the metric is back",
    "FAILED": "the rollback failed: {act.reason}",
}


class Story:
    """Prints each event once; with a moving bar on a terminal, as plain lines elsewhere.

    Parameters
    ----------
    console
        Where to print; texts are printed as they are, never read as markup.
    total
        About how many interactions there will be, for the bar.
    """

    def __init__(self, console: Console, *, total: int) -> None:
        self._console = console
        self._seen: set[str] = set()
        self._now_ms = 0
        self._page_url = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, mode: Mode, *, seed: int, page_url: str) -> None:
        """Say what is going to happen."""
        self._page_url = page_url.rstrip("/")
        self._print(f"Release {STABLE} serves everybody. {_OPENING[mode]}", "bold")
        self._print(f"Seed {seed}. Watch it live: {page_url} (times below are event time, UTC)")

    def progress(self, *, sent: int, by_candidate: int, now_ms: int) -> None:
        """Move the bar; on a plain output, print a line every 1,000 interactions."""
        self._now_ms = now_ms
        told = f"{sent:,} interactions, {by_candidate:,} by {CANDIDATE}"
        self._bar.update(self._task, completed=sent, description=told)
        if not self._console.is_terminal and sent >= 1_000:
            self._once(f"progress/{sent // 1_000}", told)

    def candidate_began(self, shares: dict[str, float]) -> None:
        """Say that the new release serves."""
        self._once(
            "began", f"{CANDIDATE} now serves {shares.get(CANDIDATE, 0.0):.0%} of the conversations", "cyan"
        )

    def signals(self, signals: Sequence[Signal]) -> None:
        """Say which changes for the worse were seen, after how many conversations of their release."""
        for signal in self._new(signals, lambda one: one.signal_id):
            if signal.worse:
                where = (
                    "" if signal.stream.segment == "all" else f" in {plain_segment(signal.stream.segment)}"
                )
                sides = {"arm": "the stable arm", "own": "its own beginning"}
                than = sides.get(signal.stream.test, "the reference")
                seen = f"{signal.stream.release}: {signal.stream.metric} is worse than {than}{where}"
                told = f"{seen}, seen after {_answered(signal)}{_effect(signal)}{_began(signal.began_at_ms)}"
                self._say(told, "yellow", at_ms=signal.at_ms)

    def decisions(self, decisions: Sequence[Decision]) -> None:
        """Say what was decided, and why."""
        for decision in self._new(decisions, lambda one: one.decision_id):
            told = f"decision ({' + '.join(decision.verbs)}): {describe_decision(decision)}"
            self._say(told, "bold yellow", at_ms=decision.at_ms)

    def pages(self, pages: Sequence[Page]) -> None:
        """Say who was told."""
        for page in self._new(pages, lambda one: one.message_id):
            self._say(f"page delivered: {page.summary or page.kind}", "magenta")

    def response(self, acts: Sequence[Action], log: Sequence[LogEntry]) -> None:
        """Say how far the rollback is, and what the gateway did when it was called."""
        for act in self._new(acts, lambda one: f"{one.action_id}/{one.seq}"):
            if act.kind == "rollback":
                if act.state not in ("DECIDED", "EXECUTING"):
                    self._gateway_log(log)
                style = (
                    "bold green"
                    if act.state == "ROLLED_BACK"
                    else "red"
                    if act.state == "FAILED"
                    else "green"
                )
                self._say(_ACT_LINES[act.state].format(act=act), style, at_ms=act.at_ms)
        self._gateway_log(log)

    def _gateway_log(self, log: Sequence[LogEntry]) -> None:
        for at, entry in enumerate(log):
            shares = ", ".join(f"{release} {share:.0%}" for release, share in entry.shares.items())
            if entry.kind == "move":
                self._once(f"gateway/{at}", f"the gateway moved the traffic: {shares}", "green")
            elif entry.kind in ("conflict", "rejected"):
                self._once(f"gateway/{at}", f"the gateway refused a call ({entry.kind}): {shares}", "red")

    def end(self, ok: bool, reasons: Sequence[str], *, refused: int, decisions: Sequence[Decision]) -> None:
        """Say how it ended and where the evidence is."""
        self._bar.stop()
        if refused:
            self._print(f"The door refused {refused} interactions.", "red")
        for decision in decisions[:3]:
            for exemplar in decision.exemplars[:3]:
                self._print(f"Evidence for {decision.metric}: {self._page_url}/interaction/{exemplar}")
        if ok:
            self._print("It ended as it must.", "bold green")
        for reason in reasons:
            self._print(f"Not as it must: {reason}.", "bold red")

    def _once(self, key: str, text: str, style: str = "") -> None:
        if key not in self._seen:
            self._seen.add(key)
            self._say(text, style)

    def _new(self, items: Sequence[T], identify: Callable[[T], str]) -> list[T]:
        fresh = [item for item in items if identify(item) not in self._seen]
        self._seen.update(identify(item) for item in fresh)
        return fresh

    def _say(self, text: str, style: str = "", *, at_ms: int | None = None) -> None:
        at_s = (self._now_ms if at_ms is None else at_ms) / 1000
        stamp = datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")
        self._print(f"{stamp}  {text}", style)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(clean(text, 512), style=style), soft_wrap=True)


def _began(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return f", since {datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M}"


def _answered(signal: Signal) -> str:
    """Return how many conversations of the release it took; an arm test's total holds both arms."""
    seen = signal.n if signal.stream.test == "arm" else signal.n_total
    return f"{seen:,} conversations of it"


def _effect(signal: Signal) -> str:
    if signal.effect is None or signal.baseline is None:
        return ""
    told = f": {signal.baseline:.1%} -> {signal.baseline + signal.effect:.1%}"
    if signal.interval is None:
        return told
    low, high, level = signal.interval.low, signal.interval.high, signal.interval.level
    return f"{told} ({signal.effect:+.1%}, {level:.0%} interval {low:+.1%} to {high:+.1%})"
