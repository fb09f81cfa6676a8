"""The one place that says what a detector accepts as an observation: a finite number in [0, 1]."""

import math
from numbers import Real


def read_unit_value(x: object) -> float:
    """Return `x` as a float in [0, 1].

    Raises
    ------
    ValueError
        For NaN, infinities, numbers outside [0, 1], and anything that is not a number; a bool is not one.
        The text names the type only, because `x` may hold a person's text.

    Examples
    --------
    >>> read_unit_value(1)
    1.0
    >>> read_unit_value(True)
    Traceback (most recent call last):
        ...
    ValueError: not a finite number in [0, 1]: a bool
    """
    if type(x) is float and 0.0 <= x <= 1.0:  # nearly always, and the way in is hot
        return x
    value = math.nan
    if not isinstance(x, bool) and isinstance(x, Real):
        try:
            value = float(x)
        except OverflowError:  # an integer of 400 digits
            value = math.inf
    if not 0.0 <= value <= 1.0:  # NaN fails every comparison
        raise ValueError(f"not a finite number in [0, 1]: a {type(x).__name__}")
    return value
