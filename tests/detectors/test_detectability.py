"""The detectability table: what it says is what the detector then does."""

import json
from statistics import fmean

import pytest
from click.testing import CliRunner

from detectors.attribution import detectability
from detectors.drift.betting_sr import BettingSR
from detectors.worlds.changes import generator
from streams.cli import plumbline


def test_rows_are_ordered_honest_and_above_the_limit():
    rows = detectability(0.9, units_per_day=100, sizes=(0.05, 0.1, 0.2), streams=60)
    assert [row.mean_after for row in rows] == pytest.approx([0.85, 0.8, 0.7])
    units = [row.units for row in rows]
    assert units == sorted(units, reverse=True)
    for row in rows:
        assert row.least_units < row.units + 2 * row.se
        assert row.days == pytest.approx(row.units / 100)
        assert row.missed == 0.0


def test_it_agrees_with_the_detector_on_other_streams():
    (row,) = detectability(0.9, units_per_day=100, sizes=(0.2,), streams=150)
    found = []
    for seed in range(150):
        watch = BettingSR(mean_low=0.9, mean_high=0.9, alpha=1e-4)
        for x in (generator(seed).random(5_000) < 0.7).astype(float).tolist():
            watch.update(x)
            if watch.drift_detected:
                break
        found.append(watch.n)
    assert row.units == pytest.approx(fmean(found), abs=5 * row.se)


def test_a_change_too_small_for_the_detector_is_missed_and_said_so():
    (row,) = detectability(
        0.9,
        units_per_day=100,
        sizes=(0.02,),
        build=lambda: BettingSR(mean_low=0.85, mean_high=0.95, alpha=1e-4),
        streams=10,
        horizon=2_000,
    )
    assert row.missed == 1.0
    assert row.units == 2_000


def test_up_is_found_too_and_ends_are_cut():
    (row,) = detectability(0.1, units_per_day=1, sizes=(5.0,), side="up", streams=5)
    assert row.mean_after == 0.999
    assert row.units < 20


@pytest.mark.parametrize(
    "wrong", [{"units_per_day": 0.0}, {"sizes": (0.0,)}, {"alpha": 1.0}, {"baseline": 1.0}]
)
def test_bad_input_is_refused(wrong):
    arguments = {"baseline": 0.9, "units_per_day": 1.0, **wrong}
    baseline = arguments.pop("baseline")
    with pytest.raises(ValueError, match=r"must be"):
        detectability(baseline, **arguments)


def test_the_command_line_prints_the_table_and_a_reference_costs_time():
    def units(*more: str) -> float:
        arguments = ["detectability", "--rate", "100", "--size", "0.2", "--json", *more]
        done = CliRunner().invoke(plumbline, arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)[0]["units"]

    assert units() < units("--n-ref", "100")
    table = CliRunner().invoke(plumbline, ["detectability", "--rate", "50", "--size", "0.3"])
    assert "0.600" in table.output
    assert CliRunner().invoke(plumbline, ["detectability", "--rate", "0"]).exit_code == 2
