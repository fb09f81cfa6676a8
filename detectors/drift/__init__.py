"""Sequential detectors with promised false alarms, in river's interface. A file here is one detector."""

from collections.abc import Callable
from typing import Any

from detectors.registry import Registry

DETECTORS: Registry[object] = Registry("detector", "detectors.drift")
detector: Callable[[str], Callable[[type[Any]], type[Any]]] = DETECTORS.register

# Below the registry, for each of these enters itself there. RiverChannel is left out: it imports SciPy, which
# takes longer than everything else here together.
from detectors.drift.anchor_watch import AnchorWatch  # noqa: E402
from detectors.drift.arm_betting_test import ArmBettingTest  # noqa: E402
from detectors.drift.arm_category_test import ArmCategoryTest  # noqa: E402
from detectors.drift.arm_embedding_test import ArmEmbeddingTest  # noqa: E402
from detectors.drift.betting_sr import BettingSR  # noqa: E402
from detectors.drift.budget import FalsePageBudget, merge_evidence  # noqa: E402
from detectors.drift.divergence_watch import DivergenceWatch  # noqa: E402
from detectors.drift.paired_sr import PairedSR  # noqa: E402
from detectors.drift.seasonal_baseline import SeasonalBaseline  # noqa: E402
from detectors.drift.share_betting_test import ShareBettingTest  # noqa: E402

__all__ = [
    "DETECTORS",
    "AnchorWatch",
    "ArmBettingTest",
    "ArmCategoryTest",
    "ArmEmbeddingTest",
    "BettingSR",
    "DivergenceWatch",
    "FalsePageBudget",
    "PairedSR",
    "SeasonalBaseline",
    "ShareBettingTest",
    "detector",
    "merge_evidence",
]
