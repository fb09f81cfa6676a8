"""What is known of a failed insert: refused, never sent, or nobody knows. Over real sockets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streams.store import Store, StoreError, open_store
from streams.store_connection import connect_server
from tests.streams.clickhouse_door_world import WRITER, world


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_nobody_there_is_unsent() -> None:
    with pytest.raises(StoreError) as failure:
        connect_server(f"http://x@127.0.0.1:{closed_port()}", "")
    assert failure.value.outcome == "unsent"


def test_an_insert_whose_answer_is_cut_off_is_unknown(tmp_path: Path) -> None:
    with world(tmp_path, max_execution_s=20.0) as served, cutting(served.port) as (port, cut):
        store = open_store(path=None, dsn=f"http://x@127.0.0.1:{port}", password=WRITER, timeout_s=5.0)
        store.migrate()
        _insert_label(store, "a")
        cut.set()
        with pytest.raises(StoreError) as failure:
            _insert_label(store, "b")
        assert failure.value.outcome == "unknown"
        assert served.count() == 2  # it was stored, and nobody could know
        store.close()


@contextmanager
def cutting(behind: int) -> Iterator[tuple[int, threading.Event]]:
    """Pass bytes on to port `behind`; once the event is set, requests still go through and answers do not."""
    cut = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                if answers and cut.is_set():
                    source.close()
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(chunk)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection(("127.0.0.1", behind))
                for source, target, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(
                        target=carry, args=(source, target), kwargs={"answers": answers}, daemon=True
                    ).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1], cut
    finally:
        listening.close()


def test_an_answer_with_a_code_is_refused_and_a_server_that_goes_is_seen(
    tmp_path: Path,
) -> None:
    with world(tmp_path, max_execution_s=20.0) as served:
        store = open_store(path=None, dsn=f"http://x@127.0.0.1:{served.port}", password=WRITER, timeout_s=5.0)
        store.migrate()
        assert store.answers()
        with pytest.raises(StoreError) as refused:
            store.insert("no_such_table", {"a": [1]}, token="t")
        assert refused.value.outcome == "refused"
    assert not store.answers()
    with pytest.raises(StoreError) as away:
        _insert_label(store, "c")
    assert away.value.outcome == "unsent"
    store.close()


def _insert_label(store: Store, name: str) -> None:
    store.insert("labels", {"deployment": ["d"], "label_id": [name]}, token=name)


@pytest.mark.parametrize(
    ("code", "outcome"), [(252, "refused"), (243, "refused"), (159, "unknown"), (1002, "unknown")]
)
def test_codes_that_say_nothing_of_the_outcome_are_unknown(code: int, outcome: str) -> None:
    assert StoreError("x", code=code).outcome == outcome
    assert StoreError("x").outcome == "unknown"
