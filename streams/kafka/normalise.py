"""Normalise: other people's topics of JSON become submissions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from detectors.records.ids import partition_of
from detectors.stages import Delivery, StageState
from plumbline.keys import submission_key
from streams.kafka.admit import DEAD_LETTER, KIND_HEADER, place_id
from streams.kafka.dead_letters import FIRST_PLACE, DeadLetterOutput, RawOutput, bury
from streams.kafka.envelope import RawMessage
from streams.kafka.header_names import accept_any_header_name
from streams.kafka.layout import SUBMISSIONS, check_foreign, topic_name
from streams.mapping import MappingError, apply_mapping
from streams.settings import ForeignSettings, Settings

NORMALISED: Final = "normalised"
TOMBSTONE: Final = "tombstone"
"""The count of foreign records without a value: a deletion in a compacted topic tells us nothing."""

_FRAME_BYTES: Final = 5  # a zero and the number of a schema, as Confluent's serialisers write them
_ROOM_BYTES: Final = 65_536  # for headers, so that a dead letter fits its topic


class NormaliseStage:
    """One foreign topic as a stage: a submission for every record of it, or a dead letter.

    A submission goes where the producer client would send it, whatever key and partition the record had. It
    says where the record stood, so that one without an id has the same one after a replay.

    Parameters
    ----------
    foreign
        The topic, and how its records are read.
    prefix, partitions
        Of our own topics.
    max_bytes
        Of the largest record that our topics take. A dead letter of a larger one leaves its value behind.
    """

    name = "normalise"
    raw = True

    def __init__(self, foreign: ForeignSettings, *, prefix: str, partitions: int, max_bytes: int) -> None:
        self.source = foreign.topic
        self._foreign = foreign
        self._target = topic_name(SUBMISSIONS, prefix)
        self._partitions = partitions
        self._max_bytes = max_bytes

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> StageState:  # noqa: ARG002 - the contract
        """Return the state of `partition`: its counts."""
        return StageState(stored)

    def changes(self, state: StageState) -> dict[str, bytes | None]:
        """Return what changed since the last call."""
        return state.take_changes()

    def step(self, state: StageState, batch: Sequence[Delivery]) -> tuple[StageState, list[Any]]:
        """Return the state after `batch`, and its submissions and dead letters in the order of `batch`."""
        counts = dict.fromkeys((NORMALISED, TOMBSTONE, DEAD_LETTER), 0)
        outputs: list[Any] = []
        for delivery in batch:
            message = cast(RawMessage, delivery.record)
            if message.value is None:
                counts[TOMBSTONE] += 1
                continue
            output = self._normalise(message, message.value)
            counts[NORMALISED if isinstance(output, RawOutput) else DEAD_LETTER] += 1
            outputs.append(output)
        for kind, count in counts.items():
            if count:
                state.count(kind, self.source, count)
        return state, outputs

    def _normalise(self, message: RawMessage, value: bytes) -> RawOutput | DeadLetterOutput:
        if len(value) + _ROOM_BYTES > self._max_bytes:
            left = msgspec.structs.replace(message, value=None)
            text = f"over {self._max_bytes - _ROOM_BYTES} bytes; its value stays where it stands"
            return bury(left, stage=self.name, reason="record_too_large", text=text)
        if self._foreign.framed:
            if value[:1] != b"\0" or len(value) < _FRAME_BYTES:
                text = "does not begin with a zero and a schema number; set framed = false if none does"
                return bury(message, stage=self.name, reason="frame_missing", text=text)
            value = value[_FRAME_BYTES:]
        try:
            submission = apply_mapping(value, self._foreign.mapping, self._foreign.constants)
            fields = msgspec.json.decode(submission)
        except MappingError as error:
            return bury(message, stage=self.name, reason="mapping_failed", text=str(error))
        except Exception as error:  # noqa: BLE001 - one record that trips over our own fault must not stop the rest
            fault = f"failed on this record ({type(error).__name__}); report it, and send it again"
            return bury(message, stage=self.name, reason="normalise_failed", text=fault)
        if len(submission) + _ROOM_BYTES > self._max_bytes:  # a path that is used twice lengthens a record
            text = f"mapped, it is over {self._max_bytes - _ROOM_BYTES} bytes"
            return bury(message, stage=self.name, reason="record_too_large", text=text)
        return self._submission(message, fields, submission)

    def _submission(self, message: RawMessage, fields: dict[str, Any], value: bytes) -> RawOutput:
        if not fields.get("id"):
            fields["id"] = place_id(message)  # where admit will find the same one
        key = submission_key(self._foreign.kind, fields)
        place = f"{message.topic}/{message.partition}/{message.offset}".encode()
        return RawOutput(
            topic=self._target,
            partition=partition_of(key, self._partitions),
            key=key.encode("utf-8", "surrogatepass"),
            value=value,
            headers=(
                (KIND_HEADER, self._foreign.kind.encode()),
                (FIRST_PLACE, dict(message.headers).get(FIRST_PLACE) or place),
            ),
        )


def normalise_stages(settings: Settings) -> list[NormaliseStage]:
    """Return one stage for each foreign topic that `settings` name.

    Raises
    ------
    SettingsError
        If a topic is named twice, or is one of ours.
    """
    accept_any_header_name()
    kafka = settings.kafka
    check_foreign(kafka, settings.foreign)
    return [
        NormaliseStage(
            foreign,
            prefix=kafka.topic_prefix,
            partitions=kafka.partitions,
            max_bytes=kafka.max_message_bytes,
        )
        for foreign in settings.foreign
    ]
