"""Approvals at the door: once on their own topic, once in every partition; and what is refused."""

import msgspec
import pytest

from detectors.records import Reference
from detectors.records.reference import name_reference
from detectors.redaction import Redactor
from streams.door.admission import AdmissionContext, Refusal, admit_payloads
from streams.settings import DoorSettings

NOW_MS = 1_770_000_000_000
GOOD = {
    "deployment": "support", "release": "2.3", "metric": "helpful", "n": 2_000, "mean": 0.9, "variance": 0.09,
    "first_at": NOW_MS - 90_000, "last_at": NOW_MS - 60_000, "approved_at": NOW_MS,
    "cells": {"plan=pro": [900, 810.0, 810.0]},
}  # fmt: skip


def admit(**fields):
    context = AdmissionContext(
        settings=DoorSettings(), redactor=Redactor(), user_key=b"0123456789abcdef", received_at_ms=NOW_MS
    )
    return admit_payloads([msgspec.json.encode({**GOOD, **fields})], "reference", context)


def test_an_approval_is_told_once_and_governs_every_partition():
    told, control = admit()
    assert (told.topic, told.key, control.topic, control.key) == (
        "references",
        "support",
        "interactions",
        None,
    )
    assert told.record == control.record
    assert isinstance(told.record, Reference)
    assert told.record == name_reference(told.record)
    assert (told.record.approved_at_ms, told.record.segment, told.record.cells["plan=pro"].n) == (
        NOW_MS, "all", 900,
    )  # fmt: skip
    assert told.identity != control.identity


def test_the_same_approval_is_a_duplicate_and_a_later_one_is_new():
    again, later = admit()[0], admit(approved_at=NOW_MS + 1)[0]
    assert (again.identity, again.digest) == (admit()[0].identity, admit()[0].digest)
    assert later.identity != again.identity
    assert later.record.reference_id == again.record.reference_id


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": 1.01}, {"variance": -0.1}, {"n": 0}, {"mean": None}, {"approved_at": None},
        {"last_at": NOW_MS - 90_001}, {"approved_at": NOW_MS + 10**8}, {"segment": "plan=<b>"},
        {"segment": ""}, {"cells": {"plan=\u202e": [1, 1.0, 1.0]}}, {"cells": {"plan=pro": [1, 1.0]}},
        {"metric": "a b"}, {"scorer_version": "x" * 65},
        {"cells": {"all": [900, 810.0, 810.0]}}, {"cells": {"plan=pro": [2_001, 810.0, 810.0]}},
        {"cells": {"plan=pro": [0, 0.0, 0.0]}}, {"cells": {"plan=pro": [900, 901.0, 810.0]}},
        {"cells": {"plan=pro": [900, 810.0, 811.0]}}, {"cells": {"plan=pro": [900, 810.0, -1.0]}},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_a_reference_is_refused(fields):
    (refused,) = admit(**fields)
    assert isinstance(refused, Refusal)
    assert refused.status == 422
