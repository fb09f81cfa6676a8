"""The stand-in gateway: signed, idempotent, compare-and-set, and it really shifts traffic."""

import asyncio
import base64
import json
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.demo.gateway import Gateway, SignatureError, Verifier
from streams.outgoing import Signer

SECRET = "whsec_" + base64.b64encode(b"a key for the tests only, 32 b..").decode()
OTHER = "whsec_" + base64.b64encode(b"another key, not the gateway's..").decode()
NOW = 1_800_000_000


def gateway(shares: dict[str, float] | None = None) -> Gateway:
    return Gateway(
        secret=SECRET,
        deployment="support",
        shares=shares or {"2.3": 0.8, "2.4": 0.2},
        seed=7,
        clock=lambda: float(NOW),
    )


def move(**changes: str) -> dict[str, Any]:
    data = {
        "action_id": "act-1",
        "deployment": "support",
        "from_release": "2.4",
        "to_release": "2.3",
        "reason": "canary_worse",
    }
    return {"type": "plumbline.rollback", "timestamp": "2027-01-15T08:00:00Z", "data": data | changes}


def call(
    served: Gateway,
    path: str,
    message: Any,
    *,
    secret: str = SECRET,
    message_id: str = "act-1",
    at_s: int = NOW,
    headers: dict[str, str] | None = None,
) -> httpx2.Response:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    signed = Signer(secret).headers(message_id, body, at_s=at_s) | (headers or {})
    return ask(served, "POST", path, content=body, headers=signed)


def ask(served: Gateway, method: str, path: str, **more: Any) -> httpx2.Response:
    async def go() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=served.app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, **more)

    return asyncio.run(go())


def test_a_signed_move_shifts_all_traffic() -> None:
    served = gateway()
    assert call(served, "/rollback", move()).json() == {"shares": {"2.3": 1.0, "2.4": 0.0}, "generation": "2"}
    assert {served.route(f"c{at}") for at in range(500)} == {"2.3"}
    assert [entry.kind for entry in served.log] == ["set", "move"]
    assert served.log[-1].to_release == "2.3"


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": OTHER},
        {"at_s": NOW - 301},
        {"at_s": NOW + 301},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1,é"}},
        {"headers": {"webhook-signature": "v1a,AAAA"}},
        {"headers": {"webhook-timestamp": "soon"}},
        {"headers": {"webhook-id": "act-2"}},
    ],
)
@pytest.mark.parametrize("path", ["/rollback", "/page"])
def test_a_message_that_is_not_authentic_is_refused(path: str, wrong: dict[str, Any]) -> None:
    if "é" in str(wrong):
        wrong = {"headers": {"webhook-signature": "v1,é".encode()}}
    served = gateway()
    assert call(served, path, move(), **wrong).status_code == 401
    assert served.shares == {"2.3": 0.8, "2.4": 0.2}
    assert not served.pages


def test_one_right_signature_among_several_is_enough_while_a_secret_is_replaced() -> None:
    body = json.dumps(move()).encode()
    both = " ".join(Signer(s).headers("act-1", body, at_s=NOW)["webhook-signature"] for s in (OTHER, SECRET))
    assert call(gateway(), "/rollback", body, headers={"webhook-signature": both}).status_code == 200


def test_the_same_move_again_has_no_second_effect() -> None:
    served = gateway()
    call(served, "/rollback", move())
    served.set_shares({"2.3": 0.9, "2.4": 0.1})
    again = call(served, "/rollback", move(), at_s=NOW + 60)
    assert again.status_code == 200
    assert served.shares == {"2.3": 0.9, "2.4": 0.1}
    assert [entry.kind for entry in served.log] == ["set", "move", "set", "replay"]


def test_the_same_action_under_another_message_id_has_no_second_effect() -> None:
    served = gateway()
    call(served, "/rollback", move())
    assert call(served, "/rollback", move(), message_id="msg-2").status_code == 200
    assert call(served, "/rollback", move(from_release="2.3", to_release="2.4")).status_code == 409
    assert [entry.kind for entry in served.log] == ["set", "move", "replay", "conflict"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"from_release": "2.2"}, 409),
        ({"from_release": "2.3", "to_release": "2.3"}, 409),
        ({"deployment": "sales"}, 409),
        ({"to_release": "2.2"}, 422),
    ],
)
def test_compare_and_set(changes: dict[str, str], status: int) -> None:
    served = gateway()
    assert call(served, "/rollback", move(**changes)).status_code == status
    assert served.shares == {"2.3": 0.8, "2.4": 0.2}


def test_a_release_that_has_left_cannot_be_left_again() -> None:
    served = gateway()
    call(served, "/rollback", move())
    assert call(served, "/rollback", move(action_id="act-2"), message_id="act-2").status_code == 409


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":"plumbline.page","data":{}}', b"\xff"])
def test_a_signed_body_that_is_no_move_is_refused(body: bytes) -> None:
    assert call(gateway(), "/rollback", body).status_code == 422


def test_the_pager_takes_each_page_once() -> None:
    served = gateway()
    page = {"type": "plumbline.page", "data": {"deployment": "support", "release": "2.4", "summary": "worse"}}
    assert [call(served, "/page", page, message_id="n1").status_code for _ in range(2)] == [202, 202]
    assert [(one.message_id, one.release, one.kind) for one in served.pages] == [
        ("n1", "2.4", "plumbline.page")
    ]
    assert call(served, "/page", b"{", message_id="n2").status_code == 422


def test_the_state_names_every_release() -> None:
    served = gateway()
    answer = ask(served, "GET", "/state", params={"deployment": "support"})
    assert answer.json() == {"shares": {"2.3": 0.8, "2.4": 0.2}, "generation": "1"}
    assert ask(served, "GET", "/state", params={"deployment": "sales"}).status_code == 404


def test_routing_is_sticky_and_keeps_its_shares() -> None:
    served, again = gateway(), gateway()
    routes = [served.route(f"c{at}") for at in range(10_000)]
    assert routes == [again.route(f"c{at}") for at in range(10_000)]
    assert abs(routes.count("2.4") / 10_000 - 0.2) < 0.016


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100), st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_release_without_a_share_serves_nobody(percent: int, conversation: str) -> None:
    served = gateway({"a": 0.0, "b": percent / 100, "c": 1 - percent / 100, "d": 0.0})
    release = served.route(conversation)
    assert served.shares[release] > 0.0


@pytest.mark.parametrize("shares", [{"a": 0.5}, {"a": 1.5, "b": -0.5}, {}])
def test_an_impossible_table_is_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        gateway().set_shares(shares)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "abc_AAAA"])
def test_a_secret_of_another_form_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and base64") as caught:
        Verifier(secret)
    assert not secret[6:] or secret not in str(caught.value)


def test_no_header_at_all() -> None:
    with pytest.raises(SignatureError):
        Verifier(SECRET).check({}, b"", now_s=NOW)
