"""Seeded traffic with a known truth, for the demonstration, the tests and the evaluation.

A world is a pure function of its seed. It draws what people ask apart from what a release answers, so the
same conversation can be answered by two releases.
"""

from detectors.worlds.support_answers import Behaviour, Reply
from detectors.worlds.support_assistant import Question, Serving, SupportWorld

__all__ = ["Behaviour", "Question", "Reply", "Serving", "SupportWorld"]
