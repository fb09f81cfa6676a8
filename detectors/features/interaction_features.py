"""What all scorers share about one interaction."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, cast

from detectors.features.text_features import TextFeatures
from detectors.records import Interaction

V = TypeVar("V")


class Features:
    """An interaction with its texts read once; scorers read these and compute none of their own.

    Parameters
    ----------
    interaction
        What is to be scored. It is never changed.

    Examples
    --------
    >>> features = Features.of(prompt="How do I reset my password?", response="Click *Forgot password*.")
    >>> features.response.folded
    'click *forgot password*.'
    """

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self._read: dict[Callable[[Features], Any], Any] = {}

    @classmethod
    def of(cls, *, prompt: str, response: str, **interaction_fields: Any) -> "Features":
        """Return the features of a new interaction, for documentation and tests.

        Everything not given is fixed: deployment ``doc``, release ``1``, ids and times.
        """
        given: dict[str, Any] = {
            "deployment": "doc",
            "interaction_id": "00000000-0000-5000-8000-000000000001",
            "raw_id": "1",
            "release": "1",
            "event_time_ms": 1_767_225_600_000,
            "received_at_ms": 1_767_225_600_000,
            **interaction_fields,
        }
        return cls(Interaction(prompt=prompt, response=response, **given))

    @cached_property
    def prompt(self) -> TextFeatures:
        """What was asked."""
        return TextFeatures(self.interaction.prompt)

    @cached_property
    def response(self) -> TextFeatures:
        """What the user was shown."""
        return TextFeatures(self.interaction.response)

    @cached_property
    def known(self) -> TextFeatures:
        """What the model was given to rely on: context, tool results, and the reference answer."""
        interaction = self.interaction
        reference = interaction.annotations.reference_answer
        parts = [*interaction.context, *(tool.result for tool in interaction.tools if tool.result)]
        return TextFeatures("\n".join([*parts, reference] if reference else parts))

    def once(self, read: "Callable[[Features], V]") -> V:
        """Return ``read(self)``, computed at most once for this interaction.

        `read` must be a module-level function without side effects.
        """
        if read not in self._read:
            self._read[read] = read(self)
        return cast(V, self._read[read])
