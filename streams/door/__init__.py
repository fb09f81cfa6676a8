"""The way in, and the only writer of interactions: it validates, redacts, hashes and re-keys.

A bad record gets its own verdict, and its neighbours theirs.
"""

from streams.door.admission import Admission, AdmissionContext, Refusal, admit_payloads, judge_payloads
from streams.door.counters import DoorCounters
from streams.door.http import door_routes, require_token

__all__ = [
    "Admission",
    "AdmissionContext",
    "DoorCounters",
    "Refusal",
    "admit_payloads",
    "door_routes",
    "judge_payloads",
    "require_token",
]
