"""Which share of the traffic each release served, since the last status."""

from collections.abc import Iterable, Mapping
from typing import Any

from detectors.records import Signal, StreamKey
from detectors.records.ids import derive_id
from detectors.stages.detect_state import DetectState, key_of
from detectors.stages.units import ALL


def count_served(
    state: DetectState, deployment: str, served: Mapping[str, int], watched: Iterable[str], bucket_ms: int
) -> None:
    """Add what each release `served` in a closed bucket to its status period."""
    key = key_of("served", deployment)
    period: dict[str, Any] = state.blobs.get(key) or {"from": bucket_ms, "total": 0, "by": {}}
    by = {name: period["by"].get(name, 0) + served.get(name, 0) for name in sorted(watched)}
    state.blobs.put(key, {"from": period["from"], "total": period["total"] + sum(served.values()), "by": by})


def share_statuses(state: DetectState, deployment: str, at_ms: int) -> list[Signal]:
    """Return the share of every watched release, one that served nothing included, and begin a new period."""
    key = key_of("served", deployment)
    period: dict[str, Any] = state.blobs.get(key)
    state.blobs.drop(key)
    declared = state.releases.get(deployment, {})
    found = []
    for release, served in period["by"].items():
        stream = StreamKey(deployment, release, ALL, "served_share", "share")
        known = declared.get(release)
        found.append(
            Signal(
                signal_id=derive_id("signal", "status", *stream.parts(), str(at_ms)),
                kind="status",
                stream=stream,
                at_ms=at_ms,
                n=period["total"],
                from_ms=period["from"],
                n_total=period["total"],
                mean=served / period["total"],
                role=known.role if known else "unknown",
                detector="count",
            )
        )
    return found
