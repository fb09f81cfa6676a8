"""A gateway and webhook receiver on loopback that keeps Standard Webhooks 1.0 and the rollback contract."""

import base64
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from streams.checks import Verdict, receiver
from streams.outgoing import Signer


@receiver("standard_webhooks")
class StandardWebhooks:
    """Serves ``POST /rollback``, ``GET /state`` and ``POST`` anywhere else as a notice.

    Parameters
    ----------
    directory
        Where the file with its secret is written.
    """

    verdicts: ClassVar[Mapping[int, Verdict]] = {
        200: "accepted",
        202: "accepted",
        204: "accepted",
        302: "permanent",
        307: "permanent",
        400: "permanent",
        401: "permanent",
        404: "permanent",
        410: "permanent",
        429: "retryable",
        500: "retryable",
        502: "retryable",
        503: "retryable",
    }

    def __init__(self, *, directory: str) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        path = Path(directory) / "receiver.secret"
        path.write_text(self.secret)
        self.secret_file = str(path)
        self.lock = threading.Lock()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, Signer(self.secret)))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.clear()
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def clear(self) -> None:
        """Forget everything: faults, ids, effects and traffic."""
        self.received: list[str] = []
        self.effects: list[str] = []
        self.bodies: list[bytes] = []
        self.moves: list[dict[str, Any]] = []
        self.shares: dict[str, dict[str, float]] = {}
        self.generation = 0
        self._answered: dict[str, int] = {}
        self.clear_faults()

    def clear_faults(self) -> None:
        """Forget the faults that were ordered, and answer again."""
        self._faults: deque[tuple[int, dict[str, str], bool]] = deque()
        self._released.set()

    def fail(self, status: int, headers: Mapping[str, str] | None = None, *, applied: bool = False) -> None:
        """Answer one more request with `status`; where `applied`, after its effect and not instead of it."""
        self._faults.append((status, dict(headers or {}), applied))

    def hang(self, on: bool) -> None:
        """Answer nobody while `on`."""
        (self._released.clear if on else self._released.set)()

    def stop(self) -> None:
        """Close the server."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(
        self, method: str, target: str, message_id: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for one request whose signature was right."""
        self._released.wait(30)
        with self.lock:
            self.received.append(message_id)
            fault = self._faults.popleft() if self._faults else None
            if fault is not None and not fault[2]:
                return fault[0], fault[1], b""
            status, content = self._serve(method, target, message_id, body)
            return (status, {}, content) if fault is None else (fault[0], fault[1], b"")

    def _serve(self, method: str, target: str, message_id: str, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(target)
        if method == "GET":
            deployment = parse_qs(parts.query).get("deployment", [""])[0]
            if deployment not in self.shares:
                return 404, b""
            state = {"shares": self.shares[deployment], "generation": str(self.generation)}
            return 200, msgspec.json.encode(state)
        if message_id in self._answered:
            return self._answered[message_id], b""
        self.bodies.append(body)
        status = self._move(body, message_id) if parts.path == "/rollback" else 200
        if status == 200:
            self.effects.append(message_id)
            self._answered[message_id] = status
        return status, b""

    def _move(self, body: bytes, message_id: str) -> int:
        message = msgspec.json.decode(body)
        data = message["data"]
        if message["type"] != "plumbline.rollback" or data["action_id"] != message_id:
            return 400
        served = self.shares.get(data["deployment"])
        if served is None:
            return 404
        if served.get(data["from_release"], 0.0) <= 0.0 and served.get(data["to_release"]) != 1.0:
            return 409
        self.shares[data["deployment"]] = {data["to_release"]: 1.0}
        self.generation += 1
        self.moves.append(data)
        return 200


def _handler(owner: StandardWebhooks, signer: Signer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if signer.verifies(headers, body, now_s=time.time()):
                message_id = headers["webhook-id"]
                status, extra, content = owner.answer(self.command, self.path, message_id, body)
            else:
                status, extra, content = 401, {}, b""
            try:
                self.send_response(status)
                for name, value in {**extra, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the caller gave up waiting

        do_GET = do_POST = _do  # noqa: N815 - the names http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own signature
            """Stay silent."""

    return Handler
