"""Backfill on the embedded store: shadow tables, restart, comparison, swap by the day, and back again."""

import itertools
from types import SimpleNamespace

import msgspec
import pytest

from detectors.records import Interaction, Score
from detectors.stages.score import ScoreStage
from streams.kafka.backfill import rescore
from streams.kafka.envelope import place_of, seal, unseal
from streams.kafka.shadow import BackfillError, Plan, ShadowTables, Span, check_run_id, swapped_plans
from streams.kafka.shadow_compare import VerdictChange, compare, moved
from streams.kafka.shadow_swap import Swap
from streams.landing_rows import rows_of
from streams.settings import SettingsError
from streams.store import open_store

DAY_MS = 86_400_000
NOON = 1_790_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2
LATER = NOON + 30 * DAY_MS
TOPIC = "p.interactions.v1"


class Length:
    """Scores by the length of the answer; the version says how."""

    direction = "higher"

    def __init__(self, name: str, full: int) -> None:
        self.name, self.full, self.version = name, full, f"v{full}"

    def score(self, features) -> Score:
        value = min(1.0, len(features.interaction.response) / self.full)
        return Score(name=self.name, value=value, direction="higher")


def interaction(number: int, received_at_ms: int = NOON) -> Interaction:
    return Interaction(
        deployment="d", interaction_id=f"i{number}", raw_id="", release=f"r{number % 2}", prompt="a",
        event_time_ms=received_at_ms + number, received_at_ms=received_at_ms + number,
        response="x" * (number % 10),
    )  # fmt: skip


class Log:
    """Interactions in envelopes of three, as Kafka would give them; offsets have gaps."""

    topic = TOPIC

    def __init__(self, records) -> None:
        self.rows = [
            SimpleNamespace(offset=2 * number, value=envelope.value, headers=envelope.headers)
            for number, chunk in enumerate(_three(records))
            for envelope in seal(chunk, None)
        ]
        self.end = 2 * len(self.rows)
        self.fail_after = None

    def read(self, partition, span):
        assert partition == 0
        for count, row in enumerate(row for row in self.rows if span.first <= row.offset < span.end):
            if count == self.fail_after:
                raise KeyboardInterrupt
            yield row.offset + 2, [row]
        yield span.end, []

    def cards(self, stage):
        """What live scoring made of it: each card with its place on its own topic."""
        found = []
        for row in self.rows:
            for index, record in enumerate(unseal(row.value, row.headers)[1]):
                found.append(stage.score(record, 0, place_of(row.offset, index)))
        return [(3, place_of(7_000 + number), card) for number, card in enumerate(found)]


def _three(records):
    return [records[start : start + 3] for start in range(0, len(records), 3)]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    store = open_store(path=tmp_path_factory.mktemp("backfill"))
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def store(opened):
    for table in ("scores", "scorecards"):
        opened.define(f"TRUNCATE TABLE {table}")
    opened.define("DROP TABLE IF EXISTS backfill_runs SYNC")
    for table in opened.reader().query("SHOW TABLES LIKE '%\\_\\_%'", {}):
        opened.define(f"DROP TABLE {table['name']} SYNC")
    return opened


TOKENS = itertools.count()
OLD = ScoreStage([Length("length", 10), Length("gone", 10)])
NEW = ScoreStage([Length("length", 5)])


def land(store, cards) -> None:
    for table, columns in rows_of(cards).items():
        store.insert(table, columns, token=f"live/{table}/{next(TOKENS)}")


def rows(store, table: str) -> list[tuple]:
    order = "deployment, interaction_id" + (", metric" if table == "scores" else "")
    sql = "SELECT * EXCEPT landed_at FROM {} FINAL ORDER BY {}"
    found = store.reader().query(sql.format(table, order), {})
    return [tuple(map(str, row.values())) for row in found]


def whole(log: Log, **more) -> Plan:
    return Plan(run_id="run1", topic=TOPIC, spans={"0": Span(0, log.end)}, configuration="new", **more)


def run(store, log, plan, *, batch: int = 4) -> ShadowTables:
    shadow = ShadowTables(store, plan.run_id)
    plan = shadow.begin(plan)
    rescore(log, NEW, plan, shadow, batch=batch, advance=lambda _progress: None)
    return shadow


def test_a_run_scores_what_it_covers_and_leaves_the_live_tables_alone(store):
    log = Log([interaction(number) for number in range(20)])
    land(store, log.cards(OLD))
    before = rows(store, "scores"), rows(store, "scorecards")
    seen = []
    shadow = ShadowTables(store, "run1")
    progress = rescore(log, NEW, shadow.begin(whole(log)), shadow, batch=4, advance=seen.append)
    assert (progress.read, progress.total, progress.scored) == (log.end, log.end, 20)
    assert [one.read for one in seen] == sorted(one.read for one in seen)
    assert (rows(store, "scores"), rows(store, "scorecards")) == before
    assert len(rows(store, shadow.name("scores"))) == 20
    assert shadow.find()[1] == "complete"


@pytest.mark.parametrize("fail_after", [0, 1, 3, 6])
def test_a_run_that_was_ended_goes_on_and_is_as_if_never_ended(store, fail_after):
    log = Log([interaction(number) for number in range(20)])
    land(store, log.cards(OLD))
    expected = [rows(store, run(store, log, whole(log)).name(table)) for table in ("scores", "scorecards")]
    ShadowTables(store, "run1").drop()
    log.fail_after = fail_after
    with pytest.raises(KeyboardInterrupt):
        run(store, log, whole(log))
    log.fail_after = None
    shadow = run(store, log, whole(log), batch=7)
    assert [rows(store, shadow.name(table)) for table in ("scores", "scorecards")] == expected


def test_a_run_is_of_one_configuration_and_range(store):
    log = Log([interaction(number) for number in range(5)])
    run(store, log, whole(log))
    for other in (
        msgspec.structs.replace(whole(log), configuration="newer"),
        msgspec.structs.replace(whole(log), spans={"0": Span(0, 2)}),
    ):
        with pytest.raises(BackfillError, match="another configuration or range"):
            ShadowTables(store, "run1").begin(other)


def test_the_comparison_says_what_changed_by_metric_and_release(store):
    log = Log([interaction(number) for number in range(20)])
    land(store, log.cards(OLD))
    shadow = run(store, log, whole(log))
    found = {(one.release, one.metric): one for one in compare(shadow).metrics}
    length = found["r0", "length"]
    assert (length.n, length.only_then, length.only_now) == (10, 0, 0)
    assert length.mean_then == pytest.approx(0.4)  # answers of 0, 2, 4, 6, 8 characters, of 10
    assert length.mean_now == pytest.approx((0.0 + 0.4 + 0.8 + 1.0 + 1.0) / 5)
    assert length.agreement == pytest.approx(0.2)
    gone = found["r1", "gone"]
    assert (gone.n, gone.mean_now, gone.only_then) == (0, None, 10)


def test_moved_verdicts_are_told_by_release():
    verdicts = (
        VerdictChange(release="1", then="ok", now="ok", n=7),
        VerdictChange(release="1", then="ok", now="violation", n=2),
    )
    assert moved(verdicts) == 2


def test_a_swap_replaces_what_the_run_covers_and_keeps_the_rest_of_the_day(store):
    log = Log([interaction(number, NOON + number // 10 * DAY_MS) for number in range(30)])
    land(store, log.cards(OLD))
    others = [(3, place_of(9_000 + n), OLD.score(interaction(n), 1, n)) for n in range(100, 105)]
    land(store, others)  # the same day, of another partition of interactions
    cards, scores = rows(store, "scorecards"), rows(store, "scores")
    shadow = run(store, log, whole(log))
    swap = Swap(store, shadow, now_ms=lambda: LATER * 2)
    days = swap.swap()
    assert [(day.covered, day.missing, day.extra) for day in days] == [(10, 0, 0)] * 3
    after = store.reader().query("SELECT metric, version, count() AS n FROM scores FINAL GROUP BY 1, 2", {})
    assert {(row["metric"], row["version"]): row["n"] for row in after} == {
        ("length", "v5"): 30, ("length", "v10"): 5, ("gone", "v10"): 5,
    }  # fmt: skip
    # Cards differ in verdicts at most: their places on the topic are those of the rows they replaced.
    assert rows(store, "scorecards") == cards
    places = "SELECT DISTINCT interaction_id, src_partition, src_offset FROM {} FINAL ORDER BY 1"
    reader = store.reader()
    assert reader.query(places.format("scores"), {}) == reader.query(places.format("scorecards"), {})
    with pytest.raises(BackfillError, match="swapped already"):
        swap.swap()
    assert compare(shadow, swapped=True).metrics[1].mean_then is not None
    assert [one.run_id for one in swapped_plans(store.reader())] == ["run1"]
    assert len(swap.undo()) == 3
    assert swapped_plans(store.reader()) == []
    assert (rows(store, "scorecards"), rows(store, "scores")) == (cards, scores)
    assert len(swap.swap()) == 3  # and again
    assert len(shadow.drop()) == 6
    found = shadow.find()
    assert found is not None
    assert swapped_plans(store.reader()) == [found[0]]
    assert found[1] == "settled"  # its rows stay the live ones, and the audit knows


def test_a_range_by_time_covers_what_was_received_in_it(store):
    log = Log([interaction(number, NOON + number * 1_000) for number in range(20)])
    land(store, log.cards(OLD))
    plan = whole(log, from_ms=NOON + 5_000, to_ms=NOON + 10_000)
    shadow = run(store, log, plan)
    (day,) = Swap(store, shadow, now_ms=lambda: LATER * 2).swap()
    assert (day.covered, day.missing, day.extra) == (5, 0, 0)
    found = store.reader().query("SELECT count() AS n FROM scores FINAL WHERE version = 'v5'", {})
    assert found[0]["n"] == 5


def test_an_incomplete_range_is_not_swapped(store):
    log = Log([interaction(number) for number in range(20)])
    land(store, log.cards(OLD)[:19])
    swap = Swap(store, run(store, log, whole(log)), now_ms=lambda: LATER * 2)
    with pytest.raises(BackfillError, match=r"1 interactions of .* have not landed yet"):
        swap.swap()
    land(store, log.cards(OLD)[19:])
    extra = [(3, place_of(9_999), OLD.score(interaction(500), 0, place_of(4, 9)))]
    land(store, extra)
    with pytest.raises(BackfillError, match=r"1 interactions of .* were not scored again"):
        swap.swap()


def test_a_run_that_did_not_finish_is_not_swapped_and_nor_is_an_unknown_one(store):
    log = Log([interaction(number) for number in range(5)])
    shadow = ShadowTables(store, "run1")
    with pytest.raises(BackfillError, match="there is no backfill run1"):
        Swap(store, shadow).swap()
    shadow.begin(whole(log))
    with pytest.raises(BackfillError, match="is running"):
        Swap(store, shadow).swap()


def test_a_range_that_is_still_landing_is_not_swapped(store):
    log = Log([interaction(number) for number in range(5)])
    land(store, log.cards(OLD))
    with pytest.raises(BackfillError, match="within the last 10 minutes"):
        Swap(store, run(store, log, whole(log))).swap()


class Stops:
    """A store whose process is ended before a statement."""

    def __init__(self, store, stop_at: int) -> None:
        self.insert, self.reader = store.insert, store.reader
        self._store, self._left = store, stop_at

    def define(self, statement: str) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt
        self._store.define(statement)


def test_an_interrupted_swap_is_gone_on_with(store):
    log = Log([interaction(number, NOON + number // 5 * DAY_MS) for number in range(20)])
    land(store, log.cards(OLD))
    scores = rows(store, "scores")
    shadow = run(store, log, whole(log))
    for stop_at in range(1, 40, 9):
        with pytest.raises(KeyboardInterrupt):
            Swap(Stops(store, stop_at), shadow, now_ms=lambda: LATER * 2).swap()
    swap = Swap(store, shadow, now_ms=lambda: LATER * 2)
    assert len(swap.swap()) == 4
    found = store.reader().query("SELECT version, count() AS n FROM scores FINAL GROUP BY 1", {})
    assert [(row["version"], row["n"]) for row in found] == [("v5", 20)]
    swap.undo()
    assert rows(store, "scores") == scores


def test_rows_that_land_into_a_swapped_day_keep_it_from_being_undone(store):
    log = Log([interaction(number) for number in range(5)])
    land(store, log.cards(OLD))
    swap = Swap(store, run(store, log, whole(log)), now_ms=lambda: LATER * 2)
    swap.swap()
    land(store, [(3, place_of(9_999), OLD.score(interaction(500), 1, 7))])
    with pytest.raises(BackfillError, match="rows landed in between"):
        swap.undo()


@pytest.mark.parametrize("run_id", ["", "A", "a-b", "a_b", "x" * 25, "a;drop"])
def test_a_run_id_is_part_of_a_name(run_id):
    with pytest.raises(SettingsError, match="--run-id"):
        check_run_id(run_id)
