"""exact_sum is fsum, to the last bit."""

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.stages.exact_sums import exact_sum

units = st.one_of(
    st.floats(0, 1),
    st.sampled_from((0.0, 5e-324, 2.0**-74, 2.0**-75, 2.0**-22 + 2.0**-74, 1.0 - 2.0**-53, 0.1, 1.0)),
)


@given(st.lists(units, max_size=8), st.integers(0, 400), st.integers(0, 2**31))
def test_any_values_add_up_as_by_fsum(some, count, seed):
    drawn = random.Random(seed)
    values = some + [drawn.random() ** drawn.choice((1, 2, 9)) for _ in range(count)]
    drawn.shuffle(values)
    assert exact_sum(np.array(values)) == math.fsum(values)


def test_ties_are_rounded_to_even():
    values = [0.0] * 64 + [1.0] + [2.0**-53] * 1
    assert exact_sum(np.array(values)) == math.fsum(values) == 1.0
    values = [0.0] * 64 + [1.0] + [2.0**-53, 2.0**-74]
    assert exact_sum(np.array(values)) == math.fsum(values) > 1.0


def test_what_is_no_unit_value_is_left_to_fsum():
    for odd in (math.inf, math.nan, 1e300, -1.0):
        values = [0.5] * 100 + [odd]
        with np.errstate(over="ignore", invalid="ignore"):
            assert repr(exact_sum(np.array(values))) == repr(math.fsum(values))
