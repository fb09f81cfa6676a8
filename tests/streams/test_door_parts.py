"""The small parts of the door: token, body, screen, counters."""

import gzip
import threading
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.records import Redaction
from streams.door import AdmissionContext, DoorCounters, door_routes, require_token
from streams.door.body import BodyError, cut_lines, read_body, unpack_gzip
from streams.door.screen import Screen
from streams.settings import DoorSettings, SettingsError


class Stars:
    """A redactor whose only secret is the word ``moon``."""

    def redact(self, text: str, field: str) -> tuple[str, tuple[Redaction, ...]]:
        at = text.find("moon")
        if at < 0:
            return text, ()
        return text.replace("moon", "[X]"), (Redaction("x", field, at, at + 3),)


def test_require_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1"):
        assert require_token(DoorSettings(host=host)) is None
    for host in ("0.0.0.0", "::", "plumbline.example", "10.0.0.1"):  # noqa: S104
        with pytest.raises(SettingsError, match=r"door\.token_env"):
            require_token(DoorSettings(host=host))
    monkeypatch.setenv("DOOR_TOKEN", "t")
    assert require_token(DoorSettings(host="0.0.0.0", token_env="DOOR_TOKEN")) == "t"  # noqa: S104


def test_short_user_key_stops_the_start() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        door_routes(
            inbox=None,  # type: ignore[arg-type]
            settings=DoorSettings(),
            redactor=Stars(),
            user_key=b"short",
            now_ms=lambda: 0,
            counters=DoorCounters(),
            token=None,
        )


def test_context_shows_no_key() -> None:
    context = AdmissionContext(
        settings=DoorSettings(),
        redactor=Stars(),
        user_key=b"geheim" * 5,
        received_at_ms=0,
        idempotency_key="ann@example.com",
    )
    assert "geheim" not in repr(context)
    assert "ann@" not in repr(context)


def test_screen_names_fields_and_keeps_two_keys_with_one_placeholder() -> None:
    screen = Screen(Stars())
    clean = screen.texts({"moon": "moon", "a": "full moon", "[X]": "b"}, "attributes")
    assert clean == {"[X]": "[X]", "a": "full [X]", "[X]#2": "b"}
    assert [found.field for found in screen.redactions] == ["attributes", "attributes.[X]", "attributes.a"]


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), min_size=1, max_size=20))
def test_cut_lines_gives_every_line_that_holds_something_with_its_number(lines: list[bytes]) -> None:
    kept = [(at, line) for at, line in enumerate(lines, start=1) if line.strip(b" \t\r")]
    if kept:
        assert cut_lines(b"\n".join(lines)) == kept
    else:
        with pytest.raises(BodyError):
            cut_lines(b"\n".join(lines))


@given(st.binary(max_size=300), st.integers(0, 400))
def test_gzip_gives_the_body_or_refuses_what_is_over_the_limit(body: bytes, limit: int) -> None:
    packed = gzip.compress(body)
    if len(body) <= limit:
        assert unpack_gzip(packed, max_bytes=limit) == body
    else:
        with pytest.raises(BodyError) as refused:
            unpack_gzip(packed, max_bytes=limit)
        assert refused.value.status == 413


@given(st.binary(max_size=100))
def test_gzip_of_any_bytes_is_a_body_or_a_refusal(packed: bytes) -> None:
    with pytest.raises(BodyError) as refused:
        unpack_gzip(b"x" + packed, max_bytes=1_000)
    assert refused.value.code == "malformed_gzip"


@pytest.mark.parametrize("declared", [None, "3", "-1", "many", "²"])
def test_body_is_read_whatever_length_is_declared(declared: str | None) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"ab", b"", b"cd"):
            yield chunk

    async def read() -> bytes:
        return await read_body(chunks(), declared=declared, max_bytes=4)

    assert anyio.run(read) == b"abcd"


def test_counters_lose_nothing_between_threads() -> None:
    counters = DoorCounters()
    threads = [
        threading.Thread(target=lambda: [counters.count("accepted") for _ in range(2_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == {"accepted": 8_000}
