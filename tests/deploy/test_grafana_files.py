"""The provisioning files agree with the boards and the store."""

import re
from importlib.resources import files

from dashboards.grafana import DATASOURCE_TYPE
from streams.settings import LandSettings

FOLDER = files("deploy").joinpath("grafana", "provisioning")
SOURCE = FOLDER.joinpath("datasources", "plumbline.yaml").read_text(encoding="utf-8")
PROVIDER = FOLDER.joinpath("dashboards", "plumbline.yaml").read_text(encoding="utf-8")


def test_the_source_is_the_plugin_that_the_boards_use() -> None:
    assert re.search(rf"^    type: {re.escape(DATASOURCE_TYPE)}$", SOURCE, re.MULTILINE)
    assert re.search(rf"^      defaultDatabase: {LandSettings().database}$", SOURCE, re.MULTILINE)


def test_no_secret_stands_in_the_file() -> None:
    assert re.findall(r"password: (.*)", SOURCE) == ["$PLUMBLINE_CLICKHOUSE_PASSWORD"]


def test_boards_cannot_be_edited_or_deleted_by_hand() -> None:
    assert "allowUiUpdates: false" in PROVIDER
    assert "disableDeletion: true" in PROVIDER
    assert "editable: false" in SOURCE
