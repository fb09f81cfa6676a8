"""The monitor opens the ClickHouse door when asked to, and says in one line why it cannot."""

import asyncio
from pathlib import Path

import pytest

from streams.listener import PortError, bind
from streams.monitor import Monitor
from streams.settings import parse_settings
from tests.streams.clickhouse_door_world import READER, World


def settings_text(tmp_path: Path, port: int) -> str:
    return (
        f"data_dir = '{tmp_path / 'data'}'\n[door]\nport = 0\n"
        f"[clickhouse_door]\nenabled = true\nport = {port}\nreader_token_env = 'DOOR_READER'\n"
    )


def test_the_monitor_opens_the_door_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOR_READER", READER)

    async def run() -> bytes:
        async with Monitor(parse_settings(settings_text(tmp_path, 0))) as monitor:
            port = int(monitor.clickhouse_url.rpartition(":")[2])
            asked = World(monitor.store, port).ask
            assert (await asyncio.to_thread(asked, "/?query=SELECT%201", token="wrong")).status == 403
            return (await asyncio.to_thread(asked, body="SHOW TABLES LIKE 'scores'")).body

    assert asyncio.run(run()) == b"scores\n"


def test_a_taken_port_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOR_READER", READER)
    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]

    async def run() -> None:
        async with Monitor(parse_settings(settings_text(tmp_path, port))):
            pass

    with pytest.raises(
        PortError, match=rf"cannot listen on 127.0.0.1:{port} .* another clickhouse_door.port"
    ):
        asyncio.run(run())
    taken.close()
