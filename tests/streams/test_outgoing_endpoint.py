"""The way out: only to addresses that were checked, bounded, and silent about secrets."""

import asyncio
import ipaddress
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import outgoing
from streams.notifiers import Permanent, Retryable
from streams.outgoing import MAX_ANSWER_BYTES, Answer, Endpoint, Signer, clean, judge_answer

LOOPBACK = ("127.0.0.0/8",)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def server():
    """A server that remembers its requests and answers with `status`, `headers`, `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            owner.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(owner.status)
            for name, value in owner.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(owner.body)
            except OSError:
                self.close_connection = True

        def log_message(self, *args):
            pass

    owner = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    owner.requests, owner.status, owner.headers, owner.body = [], 200, {}, b"hello"
    owner.port = owner.server_address[1]
    threading.Thread(target=owner.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield owner
    owner.shutdown()
    owner.server_close()


def get(url, networks=LOOPBACK, **more):
    return asyncio.run(Endpoint(url, allow_networks=networks, timeout_s=5.0).call("GET", headers={}, **more))


def resolve_to(monkeypatch, *answers):
    """Make the n-th look-up give the n-th list of addresses, the last one for ever."""
    looked = []

    async def resolve(host, port):
        looked.append(host)
        given = answers[min(len(looked), len(answers)) - 1]
        return [ipaddress.ip_address(one) for one in given]

    monkeypatch.setattr(outgoing, "resolve", resolve)
    return looked


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
    ],
)
def test_addresses_that_are_not_public_are_refused(url):
    with pytest.raises(Permanent, match="not public"):
        get(url, networks=())


def test_one_private_address_among_public_ones_is_refused(monkeypatch, server):
    resolve_to(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(Permanent):
        get(f"https://gateway.example:{server.port}/", networks=())
    assert server.requests == []


def test_http_is_possible_inside_allowed_networks_only(monkeypatch):
    with pytest.raises(ValueError, match="use https"):
        Endpoint("http://gateway.example/")
    resolve_to(monkeypatch, ["93.184.216.34"])
    with pytest.raises(Permanent):
        get("http://gateway.example/")


def test_the_checked_address_is_the_one_that_is_called(monkeypatch, server):
    looked = resolve_to(monkeypatch, ["127.0.0.1"], ["10.9.9.9"])
    answer = get(f"http://gateway.example:{server.port}/a?b=1", query={"deployment": "x y&z"})
    assert answer.status == 200
    assert looked == ["gateway.example"]
    path, headers = server.requests[0]
    assert path in {"/a?b=1&deployment=x%20y%26z", "/a?b=1&deployment=x+y%26z"}
    assert headers["host"] == f"gateway.example:{server.port}"


def test_the_next_address_is_tried_when_one_does_not_connect(monkeypatch, server):
    resolve_to(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    assert get(f"http://gateway.example:{server.port}/").body == b"hello"


def test_a_redirect_is_an_answer(server):
    server.status, server.headers = 302, {"location": f"http://127.0.0.1:{server.port}/inside"}
    answer = get(f"http://127.0.0.1:{server.port}/")
    assert answer.status == 302
    assert len(server.requests) == 1
    with pytest.raises(Permanent):
        judge_answer(answer)


def test_a_proxy_of_the_environment_is_not_used(monkeypatch, server):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert get(f"http://127.0.0.1:{server.port}/").status == 200


def test_an_endless_answer_is_cut(server):
    server.body = b"x" * (MAX_ANSWER_BYTES * 8)
    assert len(get(f"http://127.0.0.1:{server.port}/").body) == MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    "url",
    ["ftp://h/", "https://", "h", "https://u:p@h/", "https://u@h/", "https://h/#f", "https://h:x/", "//h"],
)
def test_urls_that_cannot_be_used_are_refused_without_repeating_them(url):
    with pytest.raises(ValueError, match=r"^url: ") as caught:
        Endpoint(url)
    assert "u:p" not in str(caught.value)


def test_errors_never_show_path_or_query(monkeypatch):
    resolve_to(monkeypatch, ["127.0.0.1"])
    endpoint = Endpoint("http://gateway.example:9/T0KEN?key=hidden", allow_networks=LOOPBACK)
    with pytest.raises(Retryable) as caught:
        asyncio.run(endpoint.call("GET", headers={}, query={"deployment": "hidden"}))
    for text in (str(caught.value), repr(caught.value), repr(endpoint)):
        assert "T0KEN" not in text
        assert "hidden" not in text


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "nowhere.invalid"])
def test_a_name_without_address_is_retryable(monkeypatch, host):
    with pytest.raises(Retryable):
        get(f"https://{host}/")


@pytest.mark.parametrize(
    ("status", "after", "kind", "after_s"),
    [
        (429, "12", Retryable, 12.0),
        (503, "0", Retryable, 0.0),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", Retryable, 0.0),
        (503, "-1", Retryable, None),
        (503, "nan", Retryable, None),
        (500, "", Retryable, None),
        (599, "²", Retryable, None),
        (301, "", Permanent, None),
        (409, "", Permanent, None),
        (410, "", Permanent, None),
        (100, "", Permanent, None),
    ],
)
def test_status_table(status, after, kind, after_s):
    with pytest.raises(kind) as caught:
        judge_answer(Answer(status=status, headers={"retry-after": after} if after else {}, body=b""))
    assert getattr(caught.value, "after_s", None) == after_s


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!!", "whsec_é"]
)
def test_a_wrong_secret_is_refused_without_repeating_it(secret):
    with pytest.raises(ValueError, match=r"^secret: expected") as caught:
        Signer(secret)
    assert len(secret) < 8 or secret[6:] not in str(caught.value)


@given(body=st.binary(max_size=200), other=st.binary(max_size=200), drift_s=st.integers(-1000, 1000))
def test_a_signature_holds_for_its_body_id_and_five_minutes(body, other, drift_s):
    signer = Signer(SECRET)
    headers = signer.headers("id", body, at_s=1_700_000_000)
    assert signer.verifies(headers, body, now_s=1_700_000_000 + drift_s) == (abs(drift_s) <= 300)
    assert signer.verifies(headers, other, now_s=1_700_000_000) == (other == body)
    assert not signer.verifies({**headers, "webhook-id": "other"}, body, now_s=1_700_000_000)
    assert not Signer("whsec_" + "A" * 32).verifies(headers, body, now_s=1_700_000_000)


def test_a_list_of_signatures_serves_rotation():
    signer = Signer(SECRET)
    headers = signer.headers("id", b"{}", at_s=1)
    headers["webhook-signature"] = "v1,AAAA v1a,BBBB " + headers["webhook-signature"]
    assert signer.verifies(headers, b"{}", now_s=1)


@given(st.text(max_size=400), st.integers(1, 300))
def test_clean_text_is_one_bounded_line(text, limit):
    plain = clean(text, limit)
    assert len(plain) <= max(limit, 1)
    assert plain.isprintable()
    plain.encode()
