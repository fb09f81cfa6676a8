"""Admit: the door on Kafka. What producers sent becomes records that are checked, redacted, hashed and keyed.

It does what the HTTP door does, by the same code. What that one answers to a client is told here by a count
(accepted, duplicate) or by a dead letter (refused).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast, get_args

from detectors.records import Interaction
from detectors.records.ids import derive_id
from detectors.redaction import Redactor, key_id
from detectors.stages import Delivery, Output, StageState
from streams.door.admission import CONFLICT, Admission, AdmissionContext, Refusal, judge_payloads
from streams.door.screen import TextRedactor
from streams.door.submission import Kind
from streams.embedded.user_key import load_user_key
from streams.inbox import Entry
from streams.kafka.dead_letters import FIRST_PLACE, bury
from streams.kafka.envelope import RawMessage
from streams.kafka.header_names import accept_any_header_name
from streams.kafka.layout import SUBMISSIONS
from streams.kafka.recent_ids import RecentIds
from streams.settings import DoorSettings, Settings, SettingsError

KIND_HEADER: Final = "kind"
"""The header that says what a submission is; absent: an interaction."""
ACCEPTED: Final = "accepted"
DUPLICATE: Final = "duplicate"
DEAD_LETTER: Final = "dead_letter"

_KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
_KIND_UNKNOWN: Final = Refusal(
    status=422, code="kind_unknown", message=f"the header kind is none of {', '.join(sorted(_KINDS))}"
)
_EMPTY: Final = Refusal(
    status=400, code="empty_body", message="the record has no value; send one JSON object"
)


class AdmitState(StageState):
    """What the door remembers of one partition: counts, and which ids it saw lately."""

    def __init__(self, stored: Mapping[str, bytes], *, limit: int) -> None:
        super().__init__(stored)
        self.recent = RecentIds(self, limit=limit)


class AdmitStage:
    """The door as a stage over raw Kafka records; its outputs are records and dead letters.

    A record without an id gets one from the place where it first stood, so that it keeps it when it is sent
    again. ``received_at_ms`` is the time the broker wrote it down. An interaction goes to the partition with
    the number of its submission's, control records to every one, all else to that of its deployment.

    Parameters
    ----------
    door
        Limits and the clamp of event times.
    redactor
        What replaces personal data.
    user_key
        The key of the hashes of users and conversations, at least 16 bytes.
    partitions
        Of the topic of interactions: control records go to each.
    recent_ids
        How many ids are remembered per partition.

    Raises
    ------
    ValueError
        If `user_key` is too short.
    """

    name = "admit"
    source = SUBMISSIONS
    raw = True

    def __init__(
        self, *, door: DoorSettings, redactor: TextRedactor, user_key: bytes, partitions: int, recent_ids: int
    ) -> None:
        key_id(user_key)  # a key that cannot hash must stop the start, not every record
        self._context = AdmissionContext(
            settings=door, redactor=redactor, user_key=user_key, received_at_ms=0
        )
        self._partitions = partitions
        self._recent_ids = recent_ids

    def restore(self, partition: int, stored: Mapping[str, bytes]) -> AdmitState:  # noqa: ARG002 - the contract
        """Return the state of `partition`: counts and recent ids."""
        return AdmitState(stored, limit=self._recent_ids)

    def changes(self, state: AdmitState) -> dict[str, bytes | None]:
        """Return what changed since the last call."""
        return state.take_changes()

    def step(self, state: AdmitState, batch: Sequence[Delivery]) -> tuple[AdmitState, list[Any]]:
        """Return the state after `batch`, and its records and dead letters in the order of `batch`."""
        messages = [cast(RawMessage, delivery.record) for delivery in batch]
        verdicts = [self._judge(message) for message in messages]
        admitted = [verdict.entries[0] for verdict in verdicts if isinstance(verdict, Admission)]
        known = state.recent.find([_hash_identity(entry) for entry in admitted])
        fresh: dict[int, int] = {}
        counts = dict.fromkeys((ACCEPTED, DUPLICATE, DEAD_LETTER), 0)
        outputs: list[Any] = []
        for message, verdict in zip(messages, verdicts, strict=True):
            outcome = self._claim(verdict, known, fresh)
            if isinstance(outcome, Refusal):
                counts[DEAD_LETTER] += 1
                outputs.append(bury(message, stage=self.name, reason=outcome.code, text=outcome.message))
            else:
                counts[ACCEPTED if outcome else DUPLICATE] += 1
                outputs += [one for entry in outcome for one in self._outputs(entry, message.partition)]
        state.recent.add(list(fresh), list(fresh.values()))
        for kind, count in counts.items():
            if count:
                state.count(kind, "", count)
        return state, outputs

    def _judge(self, message: RawMessage) -> Admission | Refusal:
        headers = dict(message.headers)
        kind = (headers.get(KIND_HEADER) or b"interaction").decode("ascii", "replace")
        if kind not in _KINDS:
            return _KIND_UNKNOWN
        if message.value is None:
            return _EMPTY
        context = replace(
            self._context,
            received_at_ms=max(0, message.timestamp_ms),
            idempotency_key=place_id(message),
        )
        try:
            return judge_payloads([message.value], cast(Kind, kind), context)[0]
        except Exception as error:  # noqa: BLE001 - one record that trips over our own fault must not stop the rest
            fault = f"the door failed on this record ({type(error).__name__}); report it, and send it again"
            return Refusal(status=400, code="door_failed", message=fault)

    @staticmethod
    def _claim(
        verdict: Admission | Refusal, known: Mapping[int, int], fresh: dict[int, int]
    ) -> tuple[Entry, ...] | Refusal:
        """Return the entries to write, none for a duplicate; the first of them speaks for all."""
        if isinstance(verdict, Refusal):
            return verdict
        identity, content = _hash_identity(verdict.entries[0]), int(verdict.entries[0].digest[:16], 16)
        seen = fresh.get(identity, known.get(identity))
        if seen is None:
            fresh[identity] = content
            return verdict.entries
        return () if seen == content else CONFLICT

    def _outputs(self, entry: Entry, partition: int) -> list[Output]:
        if isinstance(entry.record, Interaction):
            # Its submission was keyed by the same user or conversation. A partition of interactions that
            # mixed those of several would take the time of the fastest, and what the others bring for late.
            return [Output(topic=entry.topic, partition=partition, record=entry.record)]
        if entry.key is not None:
            return [Output(topic=entry.topic, key=entry.key, record=entry.record)]
        return [
            Output(topic=entry.topic, partition=each, record=entry.record) for each in range(self._partitions)
        ]


def admit_stage(settings: Settings) -> AdmitStage:
    """Return the stage that `settings` ask for.

    Raises
    ------
    SettingsError
        If no key of the user hashes is named: workers on several machines must hash alike.
    StorageError
        If the key cannot be read.
    """
    accept_any_header_name()
    if not settings.door.user_key_file:
        raise SettingsError(
            "door.user_key_file: on Kafka it must be named, and be the same for every worker of admit: "
            "write 32 random bytes or more to a file with mode 0600"
        )
    return AdmitStage(
        door=settings.door,
        redactor=Redactor(),
        user_key=load_user_key(Path(settings.data_dir), settings.door.user_key_file),
        partitions=settings.kafka.partitions,
        recent_ids=settings.worker.recent_ids,
    )


def place_id(message: RawMessage) -> str:
    """Return the id of a record that has none: derived from where it stands, or stood first."""
    first = dict(message.headers).get(FIRST_PLACE)
    if first:
        return derive_id("place", first.decode("utf-8", "replace"))
    return derive_id("place", f"{message.topic}/{message.partition}/{message.offset}")


def _hash_identity(entry: Entry) -> int:
    return int.from_bytes(blake2b(entry.identity.encode(), digest_size=8).digest(), "little")
