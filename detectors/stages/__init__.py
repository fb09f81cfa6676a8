"""The thinking path: score, detect, decide. Each stage is ``(state, batch) -> (state, outputs)``.

A stage owns the state of one partition of its source topic and sees nothing else. Runners read a batch,
step, and commit the outputs, the state's changes and the offsets together.
"""

from detectors.stages.contract import Delivery, Output, Stage, StageState

__all__ = ["Delivery", "Output", "Stage", "StageState"]
