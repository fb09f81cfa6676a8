"""Can a candidate be compared with the stable release at all? If not, why."""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.drift.share_betting_test import ShareBettingTest
from detectors.records import Release, Signal, StreamKey
from detectors.records.ids import derive_id
from detectors.stages.units import ALL

ROUTING: Final = "routing"
"""The metric under which a candidate's blindness is told."""


class Candidate:
    """What routing did with one candidate in one episode.

    The share test takes every fresh unit of the candidate and the stable release, scored or not: what was
    routed is the router's doing, what has a score may be the release's.

    Parameters
    ----------
    release
        The declaration in force.
    """

    def __init__(self, release: Release) -> None:
        self._release = release
        self._share = ShareBettingTest()
        self._served = 0  # interactions since the last status
        self._stamped = 0  # those of them with an arm whose share is known
        self._from_ms: int | None = None
        self._told = ""

    def serve(self, *, served: int, stamped: int, bucket_ms: int) -> None:
        """Take in how many interactions of a bucket the candidate answered, and how many had an arm."""
        self._served, self._stamped = self._served + served, self._stamped + stamped
        self._from_ms = bucket_ms if self._from_ms is None else self._from_ms

    def assign(self, treated: NDArray[np.bool_], shares: NDArray[np.float64]) -> None:
        """Take in the arms of fresh units, each with the probability with which it was treated."""
        self._share.update_many(treated, shares)

    @property
    def mismatch(self) -> bool:
        """Whether the assignment has contradicted the declared share in this episode."""
        return self._share.mismatch

    def status(self, at_ms: int, obstacle: str) -> Signal | None:
        """Return what to say when a status is due: *blind* with its reason, or once that it is over.

        `obstacle` is a reason that lies outside the candidate's own traffic. A candidate that served nothing
        says nothing new about its routing.
        """
        reason = obstacle or ("share_mismatch" if self.mismatch else self._unstamped())
        served, from_ms = self._served, self._from_ms
        self._served, self._stamped, self._from_ms = 0, 0, None
        if not reason and not self._told:
            return None
        self._told = reason
        return self._signal(at_ms, reason, served, from_ms)

    def _unstamped(self) -> str:
        if not self._served:
            return "no_arm_stamped" if self._told == "no_arm_stamped" else ""
        return "" if self._stamped else "no_arm_stamped"

    def _signal(self, at_ms: int, reason: str, served: int, from_ms: int | None) -> Signal:
        release = self._release
        key = StreamKey(release.deployment, release.release, ALL, ROUTING, "arm")
        return Signal(
            signal_id=derive_id("signal", "status", *key.parts(), str(release.started_at_ms), str(at_ms)),
            kind="status",
            stream=key,
            at_ms=at_ms,
            n=served,
            from_ms=from_ms,
            n_total=served,
            evidence=self._share.evidence,
            threshold=self._share.threshold,
            state="blind" if reason else "steady",
            role=release.role,
            detector="share_betting",
            reason=reason,
        )

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "release": msgspec.to_builtins(self._release),
            "share": self._share.to_state(),
            "served": self._served,
            "stamped": self._stamped,
            "from": self._from_ms,
            "told": self._told,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Candidate":
        """Return the candidate that `to_state` described."""
        candidate = cls(msgspec.convert(state["release"], Release))
        candidate._share = ShareBettingTest.from_state(state["share"])
        candidate._served, candidate._stamped = state["served"], state["stamped"]
        candidate._from_ms, candidate._told = state["from"], state["told"]
        return candidate
