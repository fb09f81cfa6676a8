"""Grafana boards as typed code: the one module that knows the Grafana Foundation SDK (extra ``[grafana]``).

The SDK has no ClickHouse query, so :class:`ClickHouse` is ours, as the plugin grafana-clickhouse-datasource
4.20 reads it. Panels are placed explicitly: the SDK's own layout overflows the grid of 24 columns.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import common as common_build
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table as table_build
from grafana_foundation_sdk.builders import timeseries as time_build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from msgspec import Struct

DATASOURCE_TYPE: Final = "grafana-clickhouse-datasource"
DATASOURCE: Final = "${ds}"
_PLUGIN_VERSION: Final = "4.20.0"
_FORMATS: Final = {"timeseries": 0, "table": 1}

Kind = Literal["timeseries", "table"]


class ClickHouse(Dataquery, Builder[Dataquery]):
    """One SQL text of a panel, with the plugin's macros and Grafana's variables in it."""

    def __init__(self, sql: str, kind: Kind) -> None:
        self.sql = sql
        self.kind = kind

    def build(self) -> "ClickHouse":
        """Return the query itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the target as the plugin stores it; alerts read ``format``, so it is always there."""
        return {
            "refId": "A",
            "datasource": {"type": DATASOURCE_TYPE, "uid": DATASOURCE},
            "pluginVersion": _PLUGIN_VERSION,
            "editorType": "sql",
            "queryType": self.kind,
            "format": _FORMATS[self.kind],
            "rawSql": self.sql,
            "meta": {},
        }


class Place(Struct, frozen=True):
    """Where a panel stands on the grid of 24 columns."""

    x: int
    y: int
    w: int
    h: int


class Panel(Struct, frozen=True, kw_only=True):
    """A panel: curves over time or a table. ``unit`` is Grafana's (``percentunit``, ``short``)."""

    title: str
    description: str
    sql: str
    place: Place
    kind: Kind = "timeseries"
    unit: str = "short"
    lowest: float | None = None
    highest: float | None = None
    stacked: bool = False


class Variable(Struct, frozen=True, kw_only=True):
    """A drop-down whose values come from ``sql``."""

    name: str
    label: str
    sql: str
    many: bool = False


class Annotation(Struct, frozen=True, kw_only=True):
    """Marks on every curve: ``sql`` returns ``time``, ``timeEnd``, ``text`` and ``tags``."""

    name: str
    sql: str
    colour: str


class Board(Struct, frozen=True, kw_only=True):
    """A whole board; ``uid`` is for ever, since links use it."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Variable]
    annotations: Sequence[Annotation]
    since: str = "now-6h"
    refresh: str = "30s"


def to_json(board: Board) -> str:
    """Return the board as Grafana's JSON, indented and with a line end, the same for the same board."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["plumbline"])
        .time(board.since, "now")
        .timezone("utc")
        .refresh(board.refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(build.DatasourceVariable("ds").label("Store").type(DATASOURCE_TYPE))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    for annotation in board.annotations:
        made = made.annotation(_annotation(annotation))
    for number, panel in enumerate(board.panels, start=1):
        made = made.with_panel(_panel(panel, number))
    return _encode(made.build())


def reencode(text: str) -> str:
    """Return `text` after the SDK has decoded it and encoded it again.

    A field that is misspelt or not Grafana's is lost on the way: an unchanged text proves that there is none.
    """
    register_default_plugins()
    return _encode(models.Dashboard.from_json(json.loads(text)))


def _encode(dashboard: Any) -> str:
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _source() -> Any:
    return common.DataSourceRef(type_val=DATASOURCE_TYPE, uid=DATASOURCE)


def _panel(panel: Panel, number: int) -> Any:
    made: Any = _curves(panel) if panel.kind == "timeseries" else table_build.Panel()
    place = panel.place
    return (
        made.id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(_source())
        .grid_pos(models.GridPos(x=place.x, y=place.y, w=place.w, h=place.h))
        .with_target(ClickHouse(panel.sql, panel.kind))
        .unit(panel.unit)
        .no_value("nothing in this window")
    )


def _curves(panel: Panel) -> Any:
    made = time_build.Panel().span_nulls(False).fill_opacity(30 if panel.stacked else 0).line_width(2)
    if panel.stacked:
        made = made.stacking(common_build.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.lowest is not None:
        made = made.min(panel.lowest)
    if panel.highest is not None:
        made = made.max(panel.highest)
    return made


def _variable(variable: Variable) -> Any:
    made = (
        build.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(_source())
        .query(variable.sql)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    return made.multi(True).include_all(True) if variable.many else made


def _annotation(annotation: Annotation) -> Any:
    return (
        build.AnnotationQuery()
        .name(annotation.name)
        .datasource(_source())
        .enable(True)
        .icon_color(annotation.colour)
        .target(ClickHouse(annotation.sql, "table"))
    )
