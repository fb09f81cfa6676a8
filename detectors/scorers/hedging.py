"""How often the answer says that it is not sure."""

from detectors.features import Features
from detectors.records import Direction, Score
from detectors.scorers import scorer
from detectors.scorers.readings import span_of


@scorer("hedging")
class Hedging:
    """The share of sentences that hedge. It measures hedging, not truth.

    Examples
    --------
    >>> Hedging().score(Features.of(prompt="When?", response="I'm not sure. Check the page.")).value
    0.5
    """

    name = "hedging"
    direction: Direction = "neutral"
    version = "1"

    def score(self, features: Features) -> Score | None:
        """Return the share; None if the answer has no sentence."""
        response = features.response
        sentences = response.sentences
        if not sentences:
            return None
        hedging = not response.families.isdisjoint(("hedge", "unsure"))
        hedged = [sentence for sentence in sentences if sentence.has("hedge", "unsure")] if hedging else []
        return Score(
            name=self.name,
            value=round(len(hedged) / len(sentences), 6),
            direction=self.direction,
            spans=tuple(span_of(response, "response", sentence, "hedge") for sentence in hedged[:5]),
            version=self.version,
        )
