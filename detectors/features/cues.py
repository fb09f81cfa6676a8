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


@cache
def family_of(rule: str) -> str:
    """Return the family of a rule id.

    Examples
    --------
    >>> family_of("hedge.12")
    'hedge'
    """
    return rule.partition(".")[0]
