"""Every board is proven without a Grafana: its JSON, its grid, and each of its SQL texts on a real engine."""

import datetime
import itertools
import json
from typing import Any

import pytest

from dashboards.build import BOARDS, BUILT, built_files
from dashboards.grafana import DATASOURCE, Board, reencode
from dashboards.macros import expand
from streams.store import Reader

FILES = built_files()
BOARD = {name: json.loads(text) for name, text in FILES.items()}
PANELS = [(board, panel) for board in BOARDS for panel in board.panels]


def run(reader: Reader, demo: Any, sql: str) -> list[dict[str, Any]]:
    text = expand(
        sql,
        from_s=demo.start_ms // 1000,
        to_s=demo.end_ms // 1000,
        interval_s=600,
        variables={"deployment": "support", "release": ["2026-11-a", "2026-11-b"], "metric": "refusal"},
    )
    return reader.query(text, {})


def test_committed_files_are_the_generated_ones() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in BUILT.glob("*.json")} == FILES


@pytest.mark.parametrize("name", sorted(FILES))
def test_decoding_and_encoding_loses_nothing(name: str) -> None:
    assert reencode(FILES[name]) == FILES[name]


def test_a_misspelt_field_would_be_lost() -> None:
    planted = json.loads(FILES["overview.json"])
    planted["panels"][0]["gridPoss"] = 1
    assert "gridPoss" not in reencode(json.dumps(planted))


@pytest.mark.parametrize("name", sorted(FILES))
def test_panels_stand_on_the_grid_and_apart(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARD[name]["panels"]]
    assert all(p["x"] >= 0 and p["w"] > 0 and p["h"] > 0 and p["x"] + p["w"] <= 24 for p in places)
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)


@pytest.mark.parametrize("name", sorted(FILES))
def test_ids_are_unique_and_the_store_is_a_variable(name: str) -> None:
    board = BOARD[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {DATASOURCE}
    assert {target["datasource"]["uid"] for panel in board["panels"] for target in panel["targets"]} == {
        DATASOURCE
    }
    assert {note["target"]["datasource"]["uid"] for note in board["annotations"]["list"]} == {DATASOURCE}
    ours = [one for one in board["templating"]["list"] if one["type"] == "query"]
    assert {one["datasource"]["uid"] for one in ours} == {DATASOURCE}
    assert len({one.uid for one in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=lambda part: getattr(part, "title", ""))
def test_every_panel_has_data(board: Board, panel: Any, demo_reader: Reader, demo: Any) -> None:
    rows = run(demo_reader, demo, panel.sql)
    assert rows
    if panel.kind == "timeseries":
        assert all(isinstance(row["time"], datetime.datetime) for row in rows)
        assert all(isinstance(row["value"], float) for row in rows)
        assert all(", n = " in row["series"] for row in rows)
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.title)
def test_every_variable_and_annotation_has_data(board: Board, demo_reader: Reader, demo: Any) -> None:
    for variable in board.variables:
        assert run(demo_reader, demo, variable.sql), variable.name
    for annotation in board.annotations:
        rows = run(demo_reader, demo, annotation.sql)
        assert rows
        assert set(rows[0]) == {"time", "timeEnd", "text", "tags"}


def test_served_shares_add_up(demo_reader: Reader, demo: Any) -> None:
    panel = next(panel for _, panel in PANELS if panel.title == "Served share")
    totals: dict[Any, float] = {}
    for row in run(demo_reader, demo, panel.sql):
        totals[row["time"]] = totals.get(row["time"], 0.0) + row["value"]
    assert all(total == pytest.approx(1.0) for total in totals.values())


def test_an_unknown_macro_is_refused() -> None:
    with pytest.raises(ValueError, match="timeGroup"):
        expand("SELECT $__timeGroup(a, 5m)", from_s=0, to_s=1, interval_s=1, variables={})
