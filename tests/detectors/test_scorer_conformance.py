"""Every registered scorer keeps every check."""

import pytest

from detectors.checks.scorer_checks import SCORER_CHECKS
from detectors.records import Score
from detectors.scorers import SCORERS


@pytest.mark.parametrize("check", SCORER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SCORERS.names())
def test_conformance(name, check):
    check(SCORERS.build(name, {}))


class Broken:
    name = "broken"
    direction = "higher"
    version = "1"

    def __init__(self, **fields):
        self.fields = fields
        self.calls = 0

    def score(self, features):
        self.calls += 1
        fields = {"name": "broken", "direction": "higher", "version": "1", "value": 0.5, **self.fields}
        return Score(**fields)


class Counting(Broken):
    def score(self, features):
        self.calls += 1
        return Score(name="broken", direction="higher", value=1 / self.calls)


@pytest.mark.parametrize(
    "part",
    [Broken(value=1.5), Broken(value=float("nan")), Broken(confidence=-1.0), Broken(version="2"), Counting()],
)
def test_broken_scorers_are_found(part):
    found = 0
    for check in SCORER_CHECKS:
        try:
            check(part)
        except AssertionError:
            found += 1
    assert found
