"""After an alarm: when it began, how large it is, who carries it. Before one: what could be seen at all."""

from detectors.attribution.concentration import Carrier, Concentration, find_carriers
from detectors.attribution.detectability import Detectable, detectability
from detectors.attribution.exemplars import Exemplar, choose_exemplars
from detectors.attribution.magnitude import ConfirmationWindow, Magnitude
from detectors.attribution.onset import Onset, RecentUnits, locate_onset
from detectors.attribution.parts import BlockExcess, block_excesses, shifted_dimensions
from detectors.attribution.segments import SegmentPart, Split, Tally, evidence_by_segment, split_change

__all__ = [
    "BlockExcess",
    "Carrier",
    "Concentration",
    "ConfirmationWindow",
    "Detectable",
    "Exemplar",
    "Magnitude",
    "Onset",
    "RecentUnits",
    "SegmentPart",
    "Split",
    "Tally",
    "block_excesses",
    "choose_exemplars",
    "detectability",
    "evidence_by_segment",
    "find_carriers",
    "locate_onset",
    "shifted_dimensions",
    "split_change",
]
