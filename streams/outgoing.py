"""Our one way out over HTTP: guarded against being sent astray, bounded, signed, and silent about secrets.

Signing follows Standard Webhooks 1.0 (https://www.standardwebhooks.com): a stable ``webhook-id``, a
``webhook-timestamp`` per attempt, and ``webhook-signature``, which is ``v1,`` and the base64 of
HMAC-SHA256(key, "id.timestamp.body").
"""

import asyncio
import base64
import binascii
import functools
import hashlib
import hmac
import ipaddress
import logging
import socket
import ssl
import time
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2
from msgspec import Struct

from streams.notifiers import Permanent, Retryable

MAX_ANSWER_BYTES: Final = 65_536
KEY_BYTES: Final = range(24, 65)
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The client's own log lines hold whole URLs, and a receiver's secret may stand in its path.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Answer(Struct, frozen=True, kw_only=True):
    """What came back; `body` holds at most the first 64 KiB."""

    status: int
    headers: dict[str, str]
    body: bytes


class Endpoint:
    """One URL we may call, checked when it is configured and again at every call.

    Parameters
    ----------
    url
        ``https://...``, or ``http://...`` where every address lies in `allow_networks`. No credentials, no
        fragment.
    allow_networks
        CIDRs that may be called although they are not public (``127.0.0.0/8``).
    timeout_s
        Bound of a whole call: name look-up, connection, answer.

    Raises
    ------
    ValueError
        If the URL or a network cannot be used. The text never repeats the URL.
    """

    def __init__(self, url: str, *, allow_networks: Sequence[str] = (), timeout_s: float = 15.0) -> None:
        self._url = _parse_url(url)
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(one) for one in allow_networks)
        self._timeout_s = timeout_s
        if not timeout_s > 0:
            raise ValueError("timeout_s: must be above 0")
        if self._url.scheme == "http" and not self._allowed:
            raise ValueError("url: http is possible inside allow_networks only; use https")

    def __repr__(self) -> str:
        return f"Endpoint({self._where()})"

    async def call(
        self,
        method: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request to the address that was checked, and return the answer; redirects are answers.

        Raises
        ------
        Permanent
            If the name leads to an address we may not call.
        Retryable
            If the network failed or the time was up.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                addresses = await self._addresses()
                return await self._first_that_connects(addresses, method, headers, body, query)
        except TimeoutError:
            raise Retryable(f"{self._where()}: no answer within {self._timeout_s:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            # The library's own text may repeat the URL.
            raise Retryable(f"{self._where()}: {type(error).__name__}") from None

    def _where(self) -> str:
        return f"{self._url.scheme}://{self._url.host}"

    def _port(self) -> int:
        return self._url.port or (443 if self._url.scheme == "https" else 80)

    async def _addresses(self) -> list[Address]:
        found = await resolve(self._url.host, self._port())
        for address in found:
            if not self._may_call(address):
                raise Permanent(f"{self._where()}: its address is not public and not in allow_networks")
        return found

    def _may_call(self, address: Address) -> bool:
        if any(address.version == network.version and address in network for network in self._allowed):
            return True
        public = all(one.is_global and not one.is_multicast for one in (address, *_embedded(address)))
        return public and self._url.scheme == "https"

    async def _first_that_connects(
        self,
        addresses: Sequence[Address],
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str] | None,
    ) -> Answer:
        for address in addresses[:-1]:
            try:
                return await self._send(address, method, headers, body, query)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # nothing was sent, so the next address is safe to try
        return await self._send(addresses[-1], method, headers, body, query)

    async def _send(
        self,
        address: Address,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str] | None,
    ) -> Answer:
        url = self._url.copy_with(host=str(address))
        if query:
            url = url.copy_merge_params(dict(query))
        host = self._url.netloc.decode("ascii")
        # A new client per call: a pool would find a connection by address, whatever name it was checked for.
        async with (
            httpx2.AsyncClient(verify=_tls(), trust_env=False, timeout=self._timeout_s) as client,
            client.stream(
                method,
                url,
                headers={"accept-encoding": "identity", "user-agent": "plumbline", **headers, "host": host},
                content=body,
                extensions={"sni_hostname": self._url.raw_host.decode("ascii")},
            ) as answer,
        ):
            return Answer(
                status=answer.status_code,
                headers={name.lower(): value for name, value in answer.headers.items()},
                body=await _read(answer),
            )


class Signer:
    """Signs messages with one Standard Webhooks secret.

    Parameters
    ----------
    secret
        ``whsec_`` and base64 of 24 to 64 bytes.

    Raises
    ------
    ValueError
        If it is not that. The text never holds the secret.

    Examples
    --------
    >>> signer = Signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at_s=1614265330)
    >>> headers["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """

    def __init__(self, secret: str) -> None:
        try:
            self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            self._key = b""
        if not secret.startswith("whsec_") or len(self._key) not in KEY_BYTES:
            raise ValueError("secret: expected whsec_ and base64 of 24 to 64 bytes")

    def headers(self, message_id: str, body: bytes, *, at_s: int | None = None) -> dict[str, str]:
        """Return the three headers for `body`, stamped `at_s` (default: now, in Unix seconds)."""
        stamp = str(int(time.time()) if at_s is None else at_s)
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{self._sign(message_id, stamp, body)}",
        }

    def verifies(
        self, headers: Mapping[str, str], body: bytes, *, now_s: float, within_s: float = 300
    ) -> bool:
        """Return whether `headers` (lower case) sign `body` and were stamped within `within_s` of `now_s`."""
        stamp = headers.get("webhook-timestamp", "")
        if not stamp.isascii() or not stamp.isdigit() or abs(now_s - int(stamp[:12])) > within_s:
            return False
        wanted = self._sign(headers.get("webhook-id", ""), stamp, body).encode()
        given = headers.get("webhook-signature", "").encode("utf-8", "replace").split()
        return any(hmac.compare_digest(b"v1," + wanted, one) for one in given)

    def _sign(self, message_id: str, stamp: str, body: bytes) -> str:
        signed = f"{message_id}.{stamp}.".encode() + body
        return base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()


def judge_answer(answer: Answer) -> None:
    """Return if `answer` is a success by Standard Webhooks: 2xx and nothing else.

    Raises
    ------
    Retryable
        For 429 and 5xx; with the receiver's ``Retry-After`` where it gave one.
    Permanent
        For everything else: 3xx is not followed, 410 means never again.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status == 429 or status >= 500:
        raise Retryable(f"status {status}", after_s=_retry_after_s(answer.headers.get("retry-after", "")))
    raise Permanent(f"status {status}")


def clean(text: str, limit: int = 256) -> str:
    r"""Return `text` as one line without control, format or unassigned characters, cut to `limit` characters.

    Examples
    --------
    >>> clean("a\x1b[31m\r\nb\u202e")
    'a?[31m??b?'
    """
    plain = "".join(
        "?" if unicodedata.category(one)[0] in "CZ" and one != " " else one for one in text[:limit]
    )
    return plain if len(text) <= limit else f"{plain[:-1]}…"


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of `host`, in the system's order; raises OSError if there is none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("not a host name") from None
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


def _parse_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError):
        raise ValueError("url: not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("url: expected https://host/...")
    if url.userinfo or url.fragment:
        raise ValueError("url: no credentials and no fragment; name a secret instead")
    return url


def _embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 address leads to by translation or tunnel."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    found.extend(address.teredo or ())
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


async def _read(answer: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) >= MAX_ANSWER_BYTES:
            break
    return bytes(body[:MAX_ANSWER_BYTES])


def _retry_after_s(value: str) -> float | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds or a date; None if it is neither."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time())


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
