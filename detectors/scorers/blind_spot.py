"""Is this a question about which the other scorers know little? Its mean is the share of such traffic."""

from detectors.features import Features
from detectors.records import Direction, Score
from detectors.scorers import scorer
from detectors.scorers.novelty import read_novelty


@scorer("blind_spot")
class BlindSpot:
    """1 if at least `threshold` of the prompt's words are unknown to the reference vocabulary, else 0.

    The mean of a stream of it is the share of the traffic on which the other scorers are as good as blind.
    It moves when a new language, product or kind of user arrives, where the mean of ``novelty`` hardly does:
    a twentieth of the traffic in another language is a change from 0 to .05 of this one. It is neutral: an
    alarm is a signal that pages nobody, and takes no part of the false pages promised.

    Parameters
    ----------
    threshold
        Share of unknown words from which on a prompt is a blind spot, in (0, 1].

    Raises
    ------
    ValueError
        For a threshold outside its range.

    Examples
    --------
    >>> BlindSpot().score(Features.of(prompt="Where is my invoice?", response="")).value
    0.0
    >>> BlindSpot().score(Features.of(prompt="Wo finde ich bitte meine Rechnung?", response="")).value
    1.0
    """

    name = "blind_spot"
    direction: Direction = "neutral"
    version = "1"

    def __init__(self, *, threshold: float = 0.5) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        self._threshold = threshold

    def score(self, features: Features) -> Score | None:
        """Return 0 or 1; None if the prompt has no word of two letters."""
        found = features.once(read_novelty)
        if not found.words:
            return None
        return Score(
            name=self.name,
            value=float(len(found.novel) >= self._threshold * found.words),
            direction=self.direction,
            confidence=found.confidence,
            version=self.version,
        )
