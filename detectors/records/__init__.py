"""The nouns: each is at once a struct, a topic, a table and a word on the boards.

``Interaction -> Scorecard -> Signal -> Decision -> Action``, beside them ``Release``, ``Feedback``,
``Label`` and ``Reference``. All are frozen :class:`msgspec.Struct`. Times are integers of Unix
milliseconds and say so in their name (``event_time_ms``).
"""

from detectors.records.decision import Action, ActionState, Decision, Verb
from detectors.records.feedback import Feedback, Label
from detectors.records.interaction import Annotations, Arm, Interaction, Redaction, ToolCall, Turn
from detectors.records.reference import Cell, Reference
from detectors.records.release import Release, Role
from detectors.records.scorecard import Direction, Score, Scorecard, ScoreStatus, Span, Verdict
from detectors.records.signal import Interval, Signal, SignalKind, StreamKey
from detectors.records.tick import Tick

__all__ = [
    "Action",
    "ActionState",
    "Annotations",
    "Arm",
    "Cell",
    "Decision",
    "Direction",
    "Feedback",
    "Interaction",
    "Interval",
    "Label",
    "Redaction",
    "Reference",
    "Release",
    "Role",
    "Score",
    "ScoreStatus",
    "Scorecard",
    "Signal",
    "SignalKind",
    "Span",
    "StreamKey",
    "Tick",
    "ToolCall",
    "Turn",
    "Verb",
    "Verdict",
]
