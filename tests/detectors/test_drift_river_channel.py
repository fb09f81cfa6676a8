"""RiverChannel: river's numbers untouched, NaN refused, the evidence of an alarm, exact resume."""

import math
from random import Random

import msgspec
import pytest
from river.__version__ import __version__ as river_version
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import HDDMA, HDDMW

from detectors.drift.river_channel import RiverChannel

BARE = {
    "adwin": ADWIN,
    "page_hinkley": PageHinkley,
    "hddm_a": lambda: HDDMA(two_sided_test=True),
    "hddm_w": lambda: HDDMW(two_sided_test=True),
    "kswin": lambda: KSWIN(seed=1),
}


def stream(seed, n=900):
    random = Random(seed)
    return [float(random.random() < (0.9 if i % 800 < 400 else 0.4)) for i in range(n)]


@pytest.mark.parametrize("channel", BARE)
def test_it_fires_exactly_where_bare_river_does(channel):
    wrapped, bare, fired = RiverChannel(channel=channel), BARE[channel](), 0
    for i, x in enumerate(stream(1)):
        wrapped.update(x)
        bare.update(x)
        if i % 97 == 0:
            for bad in (math.nan, math.inf, 2.0, "x"):
                with pytest.raises(ValueError, match="finite number"):
                    wrapped.update(bad)
        assert wrapped.fired == bare.drift_detected
        fired += bare.drift_detected
    assert wrapped.alarms == fired > 0
    assert wrapped.drift_detected


@pytest.mark.parametrize("channel", BARE)
@pytest.mark.parametrize("cut", [0, 250, 430])
def test_resume_is_exact(channel, cut):
    whole, values = RiverChannel(channel=channel), stream(2)
    for x in values[:cut]:
        whole.update(x)
    resumed = RiverChannel.from_state(msgspec.json.decode(msgspec.json.encode(whole.to_state())))
    for x in values[cut:]:
        whole.update(x)
        resumed.update(x)
        assert whole.fired == resumed.fired
    assert msgspec.json.encode(whole.to_state()) == msgspec.json.encode(resumed.to_state())


@pytest.mark.parametrize("channel", BARE)
def test_the_evidence_of_the_first_alarm_is_kept(channel):
    wrapped = RiverChannel(channel=channel)
    assert wrapped.alarm_record is None
    for x in stream(3):
        wrapped.update(x)
    record = wrapped.alarm_record
    assert 0 <= record["began_index"] < record["n"] <= wrapped.n
    assert all(math.isfinite(value) for value in record.values())
    assert wrapped.began_index == record["began_index"]
    if channel == "adwin":
        assert record["began_index"] == pytest.approx(400, abs=120)
        assert record["n"] - record["began_index"] == record["width"]
        assert 0.0 <= record["mean"] <= 1.0


@pytest.mark.parametrize("channel", BARE)
def test_memory_is_bounded(channel):
    wrapped, sizes = RiverChannel(channel=channel), []
    for i, x in enumerate(stream(4, 300 if channel == "kswin" else 3000)):
        wrapped.update(x)
        if i % 100 == 0:
            sizes.append(len(msgspec.json.encode(wrapped.to_state())))
    assert max(sizes) < 16_000


def test_states_of_another_river_and_foreign_ones_are_refused():
    state = RiverChannel().to_state()
    assert state["river"] == river_version
    with pytest.raises(ValueError, match="river"):
        RiverChannel.from_state({**state, "river": "0.1.0"})
    with pytest.raises(ValueError, match="another shape"):
        RiverChannel.from_state({**state, "inner": {"nothing": 1}})


def test_unknown_channels_and_settings_are_refused():
    with pytest.raises(ValueError, match="channel"):
        RiverChannel(channel="ddm")
    with pytest.raises(ValueError, match="settings"):
        RiverChannel(channel="adwin", settings={"threshold": 3.0})
    assert RiverChannel(channel="adwin", settings={"delta": 0.3}).clone().settings == {"delta": 0.3}


def test_reset_takes_the_alarm_back():
    wrapped = RiverChannel(channel="page_hinkley")
    fresh = wrapped.to_state()
    for x in stream(5):
        wrapped.update(x)
    wrapped.reset()
    assert (wrapped.drift_detected, wrapped.alarm_record, wrapped.to_state()) == (False, None, fresh)
