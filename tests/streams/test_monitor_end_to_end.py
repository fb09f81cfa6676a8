"""The embedded monitor on a real socket: the thinking path without a store, then probes, metrics and page."""

import asyncio
import base64
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.monitor import Monitor
from streams.settings import DetectSettings, DoorSettings, JournalSettings, LandSettings, Settings
from streams.store import Store, StoreError
from tests.conftest import support_payloads

COUNT = 1_500
TOKEN = "correct horse battery ståple"


class Running:
    """A monitor in an event loop of its own thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.monitor: Monitor | None = None
        self.error: BaseException | None = None
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with Monitor(self.settings) as self.monitor:
                self._ready.set()
                await self._stop.wait()
        except BaseException as error:  # noqa: BLE001 - carried to the test
            self.error = error
        finally:
            self._ready.set()

    def start(self) -> "Running":
        self._thread.start()
        assert self._ready.wait(60)
        if self.error is not None:
            raise self.error
        return self

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None, self.error

    @property
    def url(self) -> str:
        assert self.monitor is not None
        return self.monitor.door_url


def settings_in(folder: Path, **door: Any) -> Settings:
    return Settings(
        data_dir=str(folder / "data"),
        door=DoorSettings(port=0, clamp=False, **door),
        journal=JournalSettings(partitions=2, tick_s=0.05),
        detect=DetectSettings(reference_units=200, units_per_week=20_000),
        land=LandSettings(flush_s=0.05),
    )


def send(url: str, payloads: list[tuple[str, bytes]]) -> None:
    with httpx2.Client(base_url=url, timeout=60) as client:
        pending: list[bytes] = []
        for kind, payload in [*payloads, ("end", b"")]:
            if pending and (kind != "interaction" or len(pending) == 300):
                headers = {"content-type": "application/x-ndjson"}
                answer = client.post("/v1/interactions", content=b"\n".join(pending), headers=headers)
                assert answer.status_code == 202, answer.text
                pending = []
            if kind == "interaction":
                pending.append(payload)
            elif kind == "release":
                headers = {"content-type": "application/json"}
                assert client.post("/v1/releases", content=payload, headers=headers).status_code == 202


def wait(fact: Any, *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < until
        time.sleep(0.05)


class Story:
    """What was seen while the store was away, and the monitor afterwards."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.ready_while_away: httpx2.Response
        self.alive_while_away: httpx2.Response
        self.decided_while_away: list[Any] = []
        self.paged_while_away: list[Any] = []
        self.inserts_while_away = 0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    original, away = Store._send, threading.Event()
    refused: list[str] = []

    def send_rows(self: Store, table: str, columns: Any, token: str) -> None:
        if away.is_set():
            refused.append(table)
            raise StoreError("cannot insert: ConnectionError")
        original(self, table, columns, token)

    patch = pytest.MonkeyPatch()
    patch.setattr(Store, "_send", send_rows)
    running = Running(settings_in(tmp_path_factory.mktemp("monitor")))
    running.start()
    away.set()
    try:
        found = Story(running)
        send(running.url, support_payloads(COUNT, seed=11, canary_from=500))
        monitor = running.monitor
        assert monitor is not None
        running.call(monitor.wait_idle())
        wait(lambda: any(one.state == "sent" for one in monitor.machine.notices()))
        found.decided_while_away = monitor.decisions()
        found.paged_while_away = [one for one in monitor.machine.notices() if one.state == "sent"]
        wait(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503)
        found.ready_while_away = httpx2.get(f"{running.url}/readyz")
        found.alive_while_away = httpx2.get(f"{running.url}/healthz")
        found.inserts_while_away = len(refused)
        away.clear()
        running.call(monitor.wait_landed())
        yield found
    finally:
        patch.undo()
        running.stop()


def test_a_decision_and_a_page_need_no_store(story: Story) -> None:
    assert story.inserts_while_away > 0
    made = {(one.release, one.reason) for one in story.decided_while_away}
    assert ("2.4", "canary_worse_than_stable") in made
    assert {one.channel for one in story.paged_while_away} == {"log"}


def test_readiness_tells_of_the_store_and_liveness_does_not(story: Story) -> None:
    assert story.ready_while_away.json() == {
        "ok": False,
        "problems": {"landing": "cannot insert: ConnectionError"},
    }
    assert story.alive_while_away.status_code == 200
    assert httpx2.get(f"{story.running.url}/readyz").json() == {"ok": True, "problems": {}}


def test_landing_catches_up_without_gap_or_double(story: Story) -> None:
    monitor = story.running.monitor
    assert monitor is not None
    reader = monitor.store.reader()
    for table in ("interactions", "interaction_text", "scorecards"):
        (row,) = reader.query(f"SELECT count() AS n, uniqExact(interaction_id) AS ids FROM {table}", {})  # noqa: S608
        assert (row["n"], row["ids"]) == (COUNT, COUNT), table
    for table, column in (("signals", "signal_id"), ("decisions", "decision_id")):
        (row,) = reader.query(f"SELECT count() AS n, uniqExact({column}) AS ids FROM {table}", {})  # noqa: S608
        assert row["n"] == row["ids"] > 0, table


def test_metrics_can_be_scraped(story: Story) -> None:
    answer = httpx2.get(f"{story.running.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["plumbline_door_records"].type == "counter"
    accepted = {s.labels["code"]: s.value for s in families["plumbline_door_records"].samples}
    assert accepted["accepted"] == COUNT + 2
    lags = {s.labels["stage"]: s.value for s in families["plumbline_stage_lag_records"].samples}
    assert set(lags) == {"score", "detect", "decide", "act"}
    assert min(lags.values()) >= 0
    assert {s.value for s in families["plumbline_landing_lag_records"].samples} == {0.0}
    loops = {s.labels["loop"]: s.value for s in families["plumbline_round_age_seconds"].samples}
    assert set(loops) == {"think", "land", "act_feed", "act_advance", "act_deliver"}
    assert 0.0 <= max(loops.values()) < 120.0
    assert {s.labels["state"] for s in families["plumbline_notices"].samples} == {"pending", "dead"}
    assert {s.labels["state"]: s.value for s in families["plumbline_acts"].samples} == {
        "open": 0.0,
        "failed": 0.0,
    }
    assert {s.labels["partition"] for s in families["plumbline_watermark_ms"].samples} == {"0", "1"}


@pytest.mark.parametrize(
    "path", ["/", "/interactions", "/interaction/x", "/?to_ms=x", "/?deployment=%1b[31m"]
)
def test_every_page_forbids_scripts(story: Story, path: str) -> None:
    answer = httpx2.get(f"{story.running.url}{path}")
    assert answer.status_code in {200, 400, 404}
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text
    assert "\x1b" not in answer.text


def test_the_overview_shows_the_deployment(story: Story) -> None:
    page = httpx2.get(f"{story.running.url}/").text
    assert "support" in page
    assert "2.4" in page


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/v1/openapi.json", "/v1/interactions"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_another_name_for_this_machine_is_refused(story: Story, path: str, host: str) -> None:
    method = "POST" if path == "/v1/interactions" else "GET"
    assert httpx2.request(method, f"{story.running.url}{path}", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:1", "[::1]:8321"])
def test_our_own_names_are_answered(story: Story, host: str) -> None:
    assert httpx2.get(f"{story.running.url}/healthz", headers={"host": host}).status_code == 200


def test_a_page_elsewhere_cannot_post_a_form(story: Story) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"content-type": kind, "origin": "https://evil.example"}
        answer = httpx2.post(f"{story.running.url}/v1/interactions", content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert "access-control-allow-origin" not in answer.headers
    preflight = httpx2.request("OPTIONS", f"{story.running.url}/v1/interactions")
    assert preflight.status_code == 405


# ---- beyond this machine: the token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    settings = settings_in(folder, host="0.0.0.0", token_file=str(folder / "token"))  # noqa: S104
    settings = msgspec.structs.replace(settings, land=LandSettings(flush_s=60))
    patch = pytest.MonkeyPatch()
    patch.setattr("streams.store_front.open_store", lambda **_: story.running.monitor.store)  # type: ignore[union-attr]
    patch.setattr(Store, "close", lambda self: None)
    running = Running(settings).start()
    yield running.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    running.stop()
    patch.undo()


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def basic(token: str, user: str = "anyone") -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{token}".encode())


@pytest.mark.parametrize("path", ["/", "/metrics", "/interaction/x", "/static/plumbline.css", "/absent"])
@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (None, False),
        (bearer(TOKEN), True),
        (bearer(TOKEN).lower().replace(b"bearer", b"bEARER"), True),
        (basic(TOKEN), True),
        (basic(TOKEN, ""), True),
        (bearer(TOKEN[:-1]), False),
        (bearer(TOKEN + "x"), False),
        (basic("wrong"), False),
        (b"Basic " + base64.b64encode(TOKEN.encode()), False),
        (b"Basic \xff\xfe", False),
        (b"Basic ====", False),
        (b"Bearer", False),
        (b"Bearer \xff\xfe", False),
        (b"Digest " + TOKEN.encode(), False),
    ],
)
def test_the_page_needs_the_token(guarded: str, path: str, sent: bytes | None, known: bool) -> None:
    headers = {} if sent is None else {"authorization": sent}
    answer = httpx2.get(f"{guarded}{path}", headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code != 401) == known
    if not known:
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert TOKEN not in answer.text


def test_probes_are_open_and_say_little(guarded: str) -> None:
    assert httpx2.get(f"{guarded}/healthz").json() == {"ok": True, "problems": {}}
    assert httpx2.get(f"{guarded}/readyz").status_code == 200
    assert httpx2.get(f"{guarded}/healthz/../metrics").status_code == 401
    assert httpx2.get(f"{guarded}/healthzz").status_code == 401
    assert httpx2.get(f"{guarded}/v1/../metrics").status_code == 401


def test_the_door_needs_the_token(guarded: str) -> None:
    headers = {"content-type": "application/json"}
    assert httpx2.post(f"{guarded}/v1/interactions", content=b"{}", headers=headers).status_code == 401
    headers["authorization"] = bearer(TOKEN)  # type: ignore[assignment]
    assert httpx2.post(f"{guarded}/v1/interactions", content=b"{}", headers=headers).status_code == 422


def test_beyond_this_machine_a_token_is_required(tmp_path: Path) -> None:
    from streams.settings import SettingsError  # noqa: PLC0415

    with pytest.raises(SettingsError, match="has no token"):
        Monitor(settings_in(tmp_path, host="0.0.0.0"))  # noqa: S104


def test_the_log_holds_no_token(story: Story, guarded: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        httpx2.get(f"{guarded}/", headers={"authorization": bearer("a-guessed-token")})  # type: ignore[dict-item]
    assert not [record for record in caplog.records if record.name.startswith(("plumbline", "uvicorn"))
                and "a-guessed-token" in record.getMessage()]  # fmt: skip
