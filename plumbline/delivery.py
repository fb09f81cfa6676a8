"""How records reach a door: in batches, tried again, with one verdict for each."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import httpx2
import msgspec
from msgspec import Struct

_RETRIED = frozenset({429, 502, 503, 504})
_LONGEST_WAIT_S = 30.0


class Verdict(Struct, frozen=True, kw_only=True):
    """The door's answer to one record.

    ``line`` counts from 1 in the order of sending. ``status`` is 202 (accepted), 200 (duplicate: the same id
    and content were there before), 400, 409 (the id exists with other content), 413 (too large) or 422.
    """

    line: int
    status: int
    verdict: Literal["accepted", "duplicate", "refused"]
    id: str = ""
    code: str = ""
    message: str = ""


class _Answer(Struct, frozen=True):
    results: tuple[Verdict, ...]


class _Problem(Struct, frozen=True):
    """The door's answer to a request that it refuses as a whole."""

    code: str = "request_refused"
    message: str = ""


class ClientError(Exception):
    """Why nothing, or not everything, reached the monitor; the text never holds what was sent."""


class Unauthorised(ClientError):  # noqa: N818 - named for what happened
    """The door wants another token."""


class Unavailable(ClientError):  # noqa: N818 - named for what happened
    """No answer after all attempts.

    Parts sent earlier may have been accepted. Sending everything again under the same ids counts nothing
    twice.
    """


class Refused(ClientError):  # noqa: N818 - named for what happened
    """The door refused at least one record; ``verdicts`` holds the answer to each, the accepted ones too."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        refused = [verdict for verdict in self.verdicts if verdict.verdict == "refused"]
        codes = ", ".join(sorted({verdict.code or str(verdict.status) for verdict in refused}))
        super().__init__(f"{len(refused)} of {len(self.verdicts)} records refused: {codes}")


class Delivery:
    """Sends JSON records to the paths of one door; the parameters are those of the client."""

    def __init__(
        self,
        http: httpx2.Client,
        *,
        strict: bool,
        attempts: int,
        batch_lines: int,
        batch_bytes: int,
        sleep: Callable[[float], None],
    ) -> None:
        if attempts < 1 or batch_lines < 1 or batch_bytes < 1:
            raise ValueError("attempts, batch_lines and batch_bytes must be at least 1")
        self._http = http
        self._strict = strict
        self._attempts = attempts
        self._batch_lines = batch_lines
        self._batch_bytes = batch_bytes
        self._sleep = sleep

    def send(self, path: str, items: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        """Send `items` to `path` and return the verdict on each, in order; see the client for the errors."""
        verdicts: list[Verdict] = []
        for chunk in self._chunks(items):
            for verdict in self._deliver(path, chunk):
                verdicts.append(msgspec.structs.replace(verdict, line=len(verdicts) + 1))
        if self._strict and any(verdict.verdict == "refused" for verdict in verdicts):
            raise Refused(verdicts)
        return verdicts

    def _chunks(self, items: Iterable[Mapping[str, Any]]) -> Iterator[list[bytes]]:
        chunk: list[bytes] = []
        size = 0
        for item in items:
            line = encode_item(item)
            if chunk and (len(chunk) >= self._batch_lines or size + len(line) > self._batch_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(line)
            size += len(line) + 1
        if chunk:
            yield chunk

    def _deliver(self, path: str, lines: list[bytes]) -> list[Verdict]:
        """Return a verdict for each line, halving what the door calls too large."""
        response = self._post(path, lines)
        if response.status_code in (401, 403):
            raise Unauthorised(f"the door answered {response.status_code}: the token is missing or wrong")
        verdicts = _read(response)
        if len(verdicts) == len(lines):
            return verdicts
        if response.status_code == 413 and len(lines) > 1:
            middle = len(lines) // 2
            return self._deliver(path, lines[:middle]) + self._deliver(path, lines[middle:])
        if 400 <= response.status_code < 500:
            problem = _read_problem(response)
            status, code, message = response.status_code, problem.code, problem.message
            refused = Verdict(line=0, status=status, verdict="refused", code=code, message=message)
            return [refused] * len(lines)
        raise ClientError(f"{path} answered {response.status_code} without a verdict for each record")

    def _post(self, path: str, lines: list[bytes]) -> httpx2.Response:
        kind = "application/json" if len(lines) == 1 else "application/x-ndjson"
        body = b"\n".join(lines)
        problem, wait_s = "", 0.0
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(wait_s)
            wait_s = random.uniform(0.5, 1.0) * min(_LONGEST_WAIT_S, 0.2 * 2**attempt)  # noqa: S311 - jitter
            try:
                response = self._http.post(path, content=body, headers={"content-type": kind})
            except httpx2.TransportError as error:
                problem = type(error).__name__
                continue
            if response.status_code not in _RETRIED:
                return response
            problem = f"status {response.status_code}"
            wait_s = _retry_after_s(response) or wait_s
        # Raised outside the handler: the library's error carries the request, and with it the texts.
        raise Unavailable(f"{path}: {problem} at the last of {self._attempts} attempts")


def encode_item(item: Mapping[str, Any]) -> bytes:
    """Return `item` as JSON; lone surrogates, which no UTF-8 holds, are replaced."""
    try:
        return msgspec.json.encode(item)
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_surrogates(item))


def _without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which no UTF-8 text can hold and a model's output may."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_without_surrogates(key): _without_surrogates(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(part) for part in value]
    return value


def _read(response: httpx2.Response) -> list[Verdict]:
    try:
        return list(msgspec.json.decode(response.content, type=_Answer).results)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _read_problem(response: httpx2.Response) -> _Problem:
    try:
        return msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()


def _retry_after_s(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else None
