"""librdkafka's mock cluster in this process, with the parts of its C interface that inject errors.

A broker without the administration of topics, which keeps 5 MB a partition; it gives the answers that a
real one gives only on a bad day. The wheel of confluent-kafka brings the library.
"""

import ctypes
from collections.abc import Sequence
from importlib.metadata import files
from types import TracebackType
from typing import Any, Self

OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 8, 11, 12, 14
"""Numbers of Kafka's requests."""
NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS = 16, 22, 25, 27
COORDINATOR_LOADING, INVALID_REQUEST = 14, 42
"""Numbers of Kafka's errors."""

_PRODUCER = 0


class MockCluster:
    """One mock broker between ``with`` and its end; topics are made by :meth:`make_topic`."""

    def __init__(self) -> None:
        self._lib = _library()

    def __enter__(self) -> Self:
        said = ctypes.create_string_buffer(512)
        conf = self._lib.rd_kafka_conf_new()
        self._client = self._lib.rd_kafka_new(_PRODUCER, conf, said, len(said))
        if not self._client:
            raise RuntimeError(said.value.decode())
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, 1)
        # Three seconds by default, in every test.
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 200)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        found: bytes = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return found.decode()

    def make_topic(self, name: str, partitions: int) -> None:
        """Make a topic."""
        failed = self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        assert not failed, failed

    def fail_next(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind with these errors, one each."""
        packed = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), packed)

    def heal(self, request: int) -> None:
        """Answer requests of a kind as they deserve again."""
        self._lib.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def take_down(self) -> None:
        """Let the broker go away; what it stores stays."""
        self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def bring_up(self) -> None:
        """Let it come back."""
        self._lib.rd_kafka_mock_broker_set_up(self._cluster, 1)


def _library() -> Any:
    for file in files("confluent-kafka") or ():
        if file.name.startswith("librdkafka") and ".so" in file.name:
            lib = ctypes.CDLL(str(file.locate()))
            break
    else:
        raise RuntimeError("the wheel of confluent-kafka holds no librdkafka")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_new", pointer, (number, pointer, ctypes.c_char_p, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, (pointer,)),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_topic_create", number, (pointer, ctypes.c_char_p, number, number)),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            (pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(number)),
        ),
        ("rd_kafka_mock_clear_request_errors", None, (pointer, ctypes.c_int16)),
        ("rd_kafka_mock_broker_set_down", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_up", number, (pointer, ctypes.c_int32)),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, list(arguments)
    return lib
