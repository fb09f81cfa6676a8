"""The built-in page on a real store: what it says, and that nothing in it can hurt."""

import asyncio
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from dashboards.page import render_interaction, render_offenders, render_overview, stylesheet
from dashboards.page.words import visible, wilson
from dashboards.queries import QUERIES
from detectors.records import Decision
from streams.door.submission import InteractionSubmission, ReleaseSubmission
from streams.page import HEADERS, page_routes
from streams.response.wording import page_links
from streams.store import Reader

TAGS = frozenset(
    """html head meta title link body header a svg path nav main section span div h1 h2 h3 p article small b i
    figure figcaption line text polygon polyline circle g rect ul li table thead tbody tr th td footer pre
    bdi""".split()  # noqa: SIM905
)


class Harmless(HTMLParser):
    """Fails on anything that could run, load or restyle; checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "style"
            if name in {"href", "src"}:
                assert value is not None
                assert value.startswith("/"), value
                self.links.append(value)
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Harmless:
    parser = Harmless()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b]", html)
    return parser


def get(reader: Reader, demo: Any, url: str) -> httpx2.Response:
    routes = page_routes(lambda: reader.query, now_ms=lambda: demo.end_ms + 14_000, refresh_s=20)

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=Starlette(routes=routes))
        async with httpx2.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.get(url)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def overview(demo_reader: Reader, demo: Any) -> str:
    return render_overview(demo_reader.query, now_ms=demo.end_ms + 14_000, refresh_s=20)


def test_the_first_line_says_what_is_wrong_and_what_was_done(overview: str) -> None:
    first = re.search(r"<h1>(.*?)</h1>", overview, re.DOTALL)
    assert first is not None
    assert "support 2026-11-b is WORSE than 2026-11-a: refusal 6.0 % -&gt; 31.0 % (+17.0 to +33.0" in first[1]
    assert "since 01:25 UTC. It was rolled back to 2026-11-a and that was verified" in first[1]
    assert "pagerduty was paged" in first[1]


def test_the_overview_shows_denominators(overview: str) -> None:
    text = re.sub(r"\s+", " ", parsed(overview).text)
    assert "of 6,000" in text
    assert "declared 25.0 %" in text
    assert re.search(r"0\.\d{3} to 0\.\d{3}, [\d,]+ in [\d,]+ units", text)
    assert "abstained" in text
    assert '<meta http-equiv="refresh" content="20">' in overview


def test_curves_carry_bands_and_marks(overview: str) -> None:
    assert overview.count('class="band') >= 4
    for kind in ("change", "cleared", "action"):
        assert f'class="mark {kind}"' in overview


def test_the_link_of_a_notice_ends_at_its_decision(demo_reader: Reader, demo: Any) -> None:
    found = demo_reader.query(
        QUERIES["decisions"], {"deployment": "support", "from_ms": 0, "to_ms": demo.end_ms, "limit": 1}
    )
    decision = msgspec.convert({**found[0], "summary": ""}, Decision)
    link = urlsplit(page_links("http://page", decision)["page"])
    html = get(demo_reader, demo, f"{link.path}?{link.query}").text
    assert html.count(f'id="{link.fragment}"') == 1
    assert "see how it is now" in html
    assert "http-equiv" not in html


def test_every_link_of_the_overview_answers(overview: str, demo_reader: Reader, demo: Any) -> None:
    links = set(parsed(overview).links)
    assert any(link.startswith("/interactions?") for link in links)
    for link in links:
        answer = get(demo_reader, demo, link)
        assert answer.status_code == 200, link
        if not link.startswith("/static"):
            parsed(answer.text)


def test_from_a_signal_to_one_interaction_in_two_clicks(
    overview: str, demo_reader: Reader, demo: Any
) -> None:
    link = next(
        link for link in parsed(overview).links if link.startswith("/interactions?") and "refusal" in link
    )
    cases = parsed(get(demo_reader, demo, link).text)
    assert "I can't help with that." in cases.text
    one = next(link for link in cases.links if link.startswith("/interaction/"))
    assert "Decided by refusal" in parsed(get(demo_reader, demo, one).text).text


def test_an_interaction_is_found_by_its_id_alone(demo_reader: Reader, demo: Any) -> None:
    answer = get(demo_reader, demo, f"/interaction/{demo.hostile_id}")
    assert answer.status_code == 200
    assert "release 2026-11-a" in parsed(answer.text).text


def test_hostile_text_is_shown_and_harmless(demo_reader: Reader, demo: Any) -> None:
    html = render_interaction(demo_reader.query, deployment="support", interaction_id=demo.hostile_id)
    assert html is not None
    page = parsed(html)
    assert "<script>alert(1)</script>" in page.text
    assert "\\u202E" in page.text
    assert "{{7*7}}" in page.text
    assert "\\u0000" in page.text


@pytest.mark.parametrize(
    "value",
    ["<script>x</script>", "'\"><img src=x>", "\x00\x1b", "\u202e", "javascript:1", "{{7*7}}", "é" * 3000],
)
def test_hostile_parameters_are_harmless(value: str, demo_reader: Reader, demo: Any) -> None:
    now = demo.end_ms
    parsed(render_overview(demo_reader.query, now_ms=now, deployment=value))
    parsed(render_overview(demo_reader.query, now_ms=now, deployment="support", metric=value, window=value))
    page = render_offenders(
        demo_reader.query, deployment=value, release=value, metric=value, from_ms=0, to_ms=now, segment=value
    )
    parsed(page)
    assert render_interaction(demo_reader.query, deployment=value, interaction_id=value) is None


def test_an_empty_store_teaches() -> None:
    page = parsed(render_overview(lambda _sql, _parameters: [], now_ms=1_795_000_000_000))
    assert "/v1/interactions" in page.text
    assert "/v1/releases" in page.text
    first, second = re.findall(r"-d '(\{.*?\})'", page.text, re.DOTALL)
    assert msgspec.json.decode(first, type=InteractionSubmission).release == "2026-11-a"
    assert msgspec.json.decode(second, type=ReleaseSubmission).role == "stable"


def test_a_narrow_window_does_not_hide_the_incident(demo_reader: Reader, demo: Any) -> None:
    html = render_overview(demo_reader.query, now_ms=demo.end_ms, window="1h")
    assert "It was rolled back to 2026-11-a" in html
    assert "All well" not in html


def test_a_release_keeps_its_colour_in_every_window(demo_reader: Reader, demo: Any) -> None:
    for window in ("1h", "6h", "7d"):
        html = render_overview(demo_reader.query, now_ms=demo.end_ms, window=window)
        assert '<span class="key r0"></span>2026-11-a' in html
        assert '<span class="key r1"></span>2026-11-b' in html


def test_a_window_without_traffic_says_so(demo_reader: Reader, demo: Any) -> None:
    html = render_overview(demo_reader.query, now_ms=demo.end_ms, to_ms=1_000_000, window="1h")
    text = parsed(html).text
    assert "Nothing was scored in this window." in text
    assert "No signal in this window or the last 24 h." in text
    assert "http-equiv" not in html


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/", 200),
        ("/?deployment=nowhere", 200),
        ("/interactions?deployment=support&release=2026-11-b&metric=refusal", 200),
        ("/interactions?deployment=support", 400),
        ("/?to_ms=yesterday", 400),
        ("/?to_ms=99999999999999999999", 400),
        ("/interaction/none?deployment=support", 404),
        ("/static/plumbline.css", 200),
    ],
)
def test_routes_answer_with_the_headers(url: str, status: int, demo_reader: Reader, demo: Any) -> None:
    answer = get(demo_reader, demo, url)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        if name != "Cache-Control" or "static" not in url:
            assert answer.headers[name] == value
    assert "script" not in answer.headers["content-security-policy"]


def test_the_style_sheet_loads_nothing() -> None:
    css = stylesheet()
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css


def test_long_text_is_cut_with_a_note() -> None:
    shown = visible("x" * 1_000_000)
    assert len(shown) < 21_000
    assert "980,000 more characters not shown" in shown


def intervals() -> Iterator[tuple[float, int, float | None]]:
    for mean in (0.0, 0.001, 0.3, 1.0):
        for units in (1, 7, 1000):
            for se in (None, 0.0, 0.05):
                yield mean, units, se


@pytest.mark.parametrize(("mean", "units", "se"), list(intervals()))
def test_intervals_hold_the_mean_and_never_vanish(mean: float, units: int, se: float | None) -> None:
    low, high = wilson(mean, units, se)
    assert 0.0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1.0
    assert high - low > 0.0
