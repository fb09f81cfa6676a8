"""What each part of the path costs on one core, beside a calibration loop: ``make bench``.

Machines are noisy, so every figure is also given as a ratio to a loop of plain Python that is timed in the
same run. Prompts have 165 characters and answers 1,100.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from detectors.features import Features
from detectors.records import Interaction, Scorecard
from detectors.records.codec import decode, encode
from detectors.scorers import SCORERS
from detectors.stages import Delivery
from streams.assembly import Parts, assemble
from streams.embedded.journal import Journal
from streams.embedded.pipeline import Pipeline
from streams.inbox import Entry
from streams.landing_rows import rows_of
from streams.settings import Settings
from streams.store import open_store
from tests.conftest import admitted, support_payloads

COUNT = 3_000
PROMPT_CHARS, ANSWER_CHARS = 165, 1_100
ROUNDS = 3


def sized_payloads() -> list[tuple[str, bytes]]:
    """Return the test traffic with every text brought to the measured length."""
    payloads = support_payloads(COUNT, seed=9, canary_from=COUNT // 2)
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
    """Return the seconds of a fixed amount of plain Python."""
    began = time.perf_counter()
    total = 0
    for i in range(2_000_000):
        total += i & 7
    return time.perf_counter() - began


def best(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class Report:
    """Prints one line per part: microseconds per interaction, interactions per second, ratio."""

    def __init__(self) -> None:
        self._loop_s = min(calibrate() for _ in range(3))
        print(f"calibration loop: {self._loop_s * 1e3:.0f} ms for 2,000,000 additions")
        print(f"{'part':<34}{'us each':>10}{'per s':>12}{'ratio':>8}")

    def line(self, part: str, seconds: float, count: int) -> float:
        """Print the line of `part`; return its rate per second."""
        each_us = seconds / count * 1e6
        ratio = seconds / count / (self._loop_s / 2_000_000)
        print(f"{part:<34}{each_us:>10.1f}{count / seconds:>12,.0f}{ratio:>8.0f}")
        return count / seconds


def bench_scorers(report: Report, parts: Parts, interactions: list[Interaction]) -> float:
    """Measure the features and every scorer, then all of them together; return interactions per second."""
    for name in SCORERS.names():
        scorer = SCORERS.build(name, {})

        def run(scorer: object = scorer) -> None:
            for interaction in interactions[:500]:
                scorer.score(Features(interaction))  # type: ignore[attr-defined]

        report.line(f"  {name}, alone", best(run), 500)
    return report.line(
        "all scorers on shared features", best(lambda: score_all(parts, interactions)), len(interactions)
    )


def score_all(parts: Parts, interactions: list[Interaction]) -> list[Scorecard]:
    """Return the scorecards of `interactions`."""
    return [parts.score.score(interaction) for interaction in interactions]


def bench_path(report: Report, entries: list[Entry], folder: Path) -> None:
    """Measure the journal, the whole thinking path over it, and landing."""
    journal = Journal(folder / "journal.db", partitions=4)
    began = time.perf_counter()
    for start in range(0, len(entries), 500):
        journal.admit(entries[start : start + 500])
    report.line("journal, batches of 500, synced", time.perf_counter() - began, COUNT)
    pipeline = Pipeline(journal, assemble(Settings()).stages, batch=512)
    began = time.perf_counter()
    pipeline.drain()
    report.line("score + detect + decide, committed", time.perf_counter() - began, COUNT)
    rows = journal.read_topic("scorecards", 0, 10 * COUNT)
    records = [(row.partition, row.offset, row.record) for row in rows]
    store = open_store(path=folder / "store")
    store.migrate()
    began = time.perf_counter()
    for table, columns in rows_of(records).items():
        store.insert(table, columns, token=f"bench/{table}")
    report.line("landing of scorecards", time.perf_counter() - began, COUNT)
    store.close()
    journal.close()


def main() -> int:
    """Run the benchmark; exit code 1 if one core scores fewer than 1,000 interactions per second."""
    report = Report()
    payloads = sized_payloads()
    entries: list[Entry] = []
    seconds = best(lambda: entries.__init__(admitted(payloads)))  # type: ignore[misc]
    report.line("door: validate, redact, hash", seconds, COUNT)
    interactions = [e.record for e in entries if isinstance(e.record, Interaction)]
    parts = assemble(Settings())
    rate = bench_scorers(report, parts, interactions)
    cards = score_all(parts, interactions)
    encoded = [encode(card) for card in cards]
    report.line("scorecard to bytes", best(lambda: [encode(card) for card in cards]), COUNT)
    report.line("bytes to scorecard", best(lambda: [decode("Scorecard", blob) for blob in encoded]), COUNT)
    deliveries = [Delivery(0, offset, card) for offset, card in enumerate(cards)]
    report.line(
        "detect, collecting", best(lambda: parts.detect.step(parts.detect.restore(0, {}), deliveries)), COUNT
    )
    with tempfile.TemporaryDirectory() as folder:
        bench_path(report, entries, Path(folder))
    print(f"all scorers: {rate:,.0f} interactions/s on one core (wanted: 1,000)")
    return 0 if rate >= 1_000 else 1


if __name__ == "__main__":
    sys.exit(main())
