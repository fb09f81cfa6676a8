"""What each part of the path costs on one core, beside a calibration loop: ``make bench``.

Parts that only think are timed by the CPU clock of this process, so that a busy neighbour does not count;
what waits for the disk is timed by the wall clock. Every figure is also given as a ratio to a loop of plain
Python timed in the same run, by the CPU clock. Prompts have 165 characters and answers 1,100.

Nothing is measured on text that was seen before: the traffic is cut into thirds that share no text. The first
warms up, and the better of the other two counts.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from detectors.features import Features
from detectors.records import Interaction, Scorecard
from detectors.records.codec import decode, encode
from detectors.scorers import SCORERS, Scorer
from detectors.stages import Delivery
from streams.assembly import Parts, assemble
from streams.embedded.journal import Journal
from streams.embedded.pipeline import Pipeline
from streams.inbox import Entry
from streams.landing_rows import rows_of
from streams.settings import Settings
from streams.store import open_store
from tests.conftest import admitted, support_payloads

COUNT = 4_500
THIRDS = 3
PROMPT_CHARS, ANSWER_CHARS = 165, 1_100


T = TypeVar("T")
Work = Callable[[Sequence[T]], object]


def sized_payloads(count: int = COUNT, seed: int = 9) -> list[tuple[str, bytes]]:
    """Return the test traffic with every text brought to the measured length."""
    payloads = support_payloads(count, seed=seed, canary_from=count // 2)
    bodies = [(kind, msgspec.json.decode(payload)) for kind, payload in payloads]
    answers = [body["response"] for kind, body in bodies if kind == "interaction"]
    sized = []
    for index, (kind, body) in enumerate(bodies):
        if kind == "interaction":
            body["prompt"] = (body["prompt"] + " " + answers[index % len(answers)])[:PROMPT_CHARS]
            own = "\n".join([body["response"], *(answers[(index + k) % len(answers)] for k in range(1, 6))])
            body["response"] = own[:ANSWER_CHARS]
        sized.append((kind, msgspec.json.encode(body)))
    return sized


def calibrate() -> float:
    """Return the CPU seconds of a fixed amount of plain Python."""
    began = time.process_time()
    total = 0
    for i in range(2_000_000):
        total += i & 7
    return time.process_time() - began


def fresh_cpu(work: Work[T], items: Sequence[T]) -> float:
    """Return the CPU seconds per item of `work` on items it has not seen: the better of two thirds."""
    size = len(items) // THIRDS
    each = []
    for third in range(THIRDS):
        part = items[third * size : (third + 1) * size]
        began = time.process_time()
        work(part)
        each.append((time.process_time() - began) / len(part))
    return min(each[1:])


class Report:
    """Prints one line per part: its clock, microseconds per interaction, interactions per second, ratio."""

    def __init__(self) -> None:
        self._loop_s = min(calibrate() for _ in range(3))
        print(f"calibration loop: {self._loop_s * 1e3:.0f} ms CPU for 2,000,000 additions")
        print(f"{'part':<34}{'clock':>6}{'us each':>10}{'per s':>12}{'ratio':>8}")

    def line(self, part: str, each_s: float, clock: str = "cpu") -> float:
        """Print the line of `part`, measured by `clock`; return its rate per second."""
        ratio = each_s / (self._loop_s / 2_000_000)
        print(f"{part:<34}{clock:>6}{each_s * 1e6:>10.1f}{1 / each_s:>12,.0f}{ratio:>8.0f}")
        return 1 / each_s

    def wall(self, part: str, run: Callable[[], object], count: int) -> None:
        """Run once and print the line of `part`, by the wall clock."""
        began = time.perf_counter()
        run()
        self.line(part, (time.perf_counter() - began) / count, "wall")


def bench_scorers(report: Report, parts: Parts, interactions: list[Interaction]) -> float:
    """Measure the features and every scorer, then all of them together; return interactions per second."""
    together = fresh_cpu(lambda items: score_all(parts, items), interactions)
    for name in SCORERS.names():
        scorer = SCORERS.build(name, {})

        def run(items: Sequence[Interaction], scorer: Scorer = scorer) -> None:
            for interaction in items:
                scorer.score(Features(interaction))

        report.line(f"  {name}, alone, text seen", fresh_cpu(run, interactions[: 200 * THIRDS]))
    return report.line("all scorers on shared features", together)


def score_all(parts: Parts, interactions: Sequence[Interaction]) -> list[Scorecard]:
    """Return the scorecards of `interactions`."""
    return [parts.score.score(interaction) for interaction in interactions]


def bench_path(report: Report, entries: list[Entry], folder: Path) -> None:
    """Measure the journal, the whole thinking path over it, and landing."""
    journal = Journal(folder / "journal.db", partitions=4)
    batches = [entries[start : start + 500] for start in range(0, len(entries), 500)]
    report.wall(
        "journal, batches of 500, synced", lambda: [journal.admit(batch) for batch in batches], len(entries)
    )
    pipeline = Pipeline(journal, assemble(Settings()).stages, batch=512)
    began = time.process_time()
    pipeline.drain()
    report.line("score + detect + decide, committed", (time.process_time() - began) / len(entries))
    rows = journal.read_topic("scorecards", 0, 10 * COUNT)
    records = [(row.partition, row.offset, row.record) for row in rows]
    store = open_store(path=folder / "store")
    store.migrate()

    def land() -> None:
        for table, columns in rows_of(records).items():
            store.insert(table, columns, token=f"bench/{table}")

    report.wall("landing of scorecards", land, len(records))
    store.close()
    journal.close()


def bench_records(report: Report, parts: Parts, cards: list[Scorecard]) -> None:
    """Measure what happens to scorecards: to bytes, back, and into the collecting detectors."""
    report.line("scorecard to bytes", fresh_cpu(lambda part: [encode(card) for card in part], cards))
    encoded = [encode(card) for card in cards]
    report.line(
        "bytes to scorecard", fresh_cpu(lambda part: [decode("Scorecard", blob) for blob in part], encoded)
    )
    deliveries = [Delivery(0, offset, card) for offset, card in enumerate(cards)]
    report.line(
        "detect, collecting",
        fresh_cpu(lambda part: parts.detect.step(parts.detect.restore(0, {}), part), deliveries),
    )


def main() -> int:
    """Run the benchmark; exit code 1 if one core scores fewer than 1,000 interactions per second."""
    report = Report()
    payloads = [
        payload for third in range(THIRDS) for payload in sized_payloads(COUNT // THIRDS, seed=9 + third)
    ]
    entries: list[Entry] = []
    report.line(
        "door: validate, redact, hash", fresh_cpu(lambda part: entries.extend(admitted(list(part))), payloads)
    )
    interactions = [e.record for e in entries if isinstance(e.record, Interaction)]
    parts = assemble(Settings())
    rate = bench_scorers(report, parts, interactions)
    bench_records(report, parts, score_all(parts, interactions))
    with tempfile.TemporaryDirectory() as folder:
        bench_path(report, entries, Path(folder))
    print(f"all scorers: {rate:,.0f} interactions per CPU second on one core (wanted: 1,000)")
    return 0 if rate >= 1_000 else 1


if __name__ == "__main__":
    sys.exit(main())
