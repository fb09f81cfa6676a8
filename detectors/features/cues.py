"""What each sentence does: refuses, hedges, promises, instructs. Rules are data; one RE2 pass finds all."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

from detectors.patterns import PatternSet

_PREFIX: Final = "(?s)"


@cache
def cue_rules() -> PatternSet:
    """Return the compiled cue rules; a rule's id is ``family.number``, as in ``refuse.3``."""
    families = tomllib.loads(files("detectors.features").joinpath("cues.toml").read_text(encoding="utf-8"))
    return PatternSet(
        {
            f"{family}.{number}": _PREFIX + expression
            for family, expressions in families.items()
            for number, expression in enumerate(expressions)
        }
    )


def families_of(rules: tuple[str, ...]) -> frozenset[str]:
    """Return the families of rule ids.

    Examples
    --------
    >>> sorted(families_of(("hedge.1", "hedge.12", "figure.0")))
    ['figure', 'hedge']
    """
    return frozenset(map(_family_of, rules))


@cache
def _family_of(rule: str) -> str:
    return rule.partition(".")[0]
