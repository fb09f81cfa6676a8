"""Whether a rollback worked is read from served traffic; what is not known is never good news."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.response.verification import Observation, judge
from streams.settings import ActSettings

MINUTE = 60_000
CALL = 10 * MINUTE
SETTINGS = ActSettings(converge_s=900, recover_s=7200, recover_units=200, share_epsilon=0.001)


def share(minute, value, *, n=100, release="2.4", minutes=1):
    from_ms = (minute - minutes) * MINUTE
    return Observation(test="share", release=release, from_ms=from_ms, at_ms=minute * MINUTE, n=n, mean=value)


def metric(minute, value, *, n=100, baseline=0.9, direction="higher", minutes=1):
    return Observation(
        test="reference",
        release="2.3",
        from_ms=(minute - minutes) * MINUTE,
        at_ms=minute * MINUTE,
        n=n,
        mean=value,
        baseline=baseline,
        direction=direction,
    )


def found(seen, *, minute, baseline=None):
    finding = judge(
        seen,
        from_release="2.4",
        to_release="2.3",
        called_at_ms=CALL,
        now_ms=minute * MINUTE,
        baseline=baseline,
        settings=SETTINGS,
    )
    return finding.verdict, finding.reason


def test_two_clean_buckets_and_the_metric_back():
    seen = [share(11, 0.0), share(12, 0.0), metric(13, 0.9), metric(14, 0.89)]
    assert found(seen, minute=14) == ("recovered", "recovered")


def test_buckets_that_began_before_the_call_say_nothing():
    seen = [share(9, 0.0), share(10, 0.0), share(11, 0.0), metric(12, 0.9, n=500)]
    assert found(seen, minute=12) == ("waiting", "converging")


def test_a_long_period_that_began_before_the_call_says_nothing():
    """Five buckets in one status: its end lies long after the call, its traffic does not."""
    seen = [share(14, 0.0, minutes=5), share(19, 0.0, minutes=5), metric(25, 0.9, n=500)]
    assert found(seen, minute=24) == ("waiting", "converging")
    later = [share(15, 0.0, minutes=5), share(20, 0.0, minutes=5)]
    pooled = metric(25, 0.9, n=500, minutes=6)  # its first bucket lies before convergence
    assert found([*later, pooled], minute=25) == ("waiting", "recovering")
    assert found([*later, metric(25, 0.9, n=500, minutes=5)], minute=25) == ("recovered", "recovered")


def test_one_clean_bucket_between_dirty_ones_is_not_convergence():
    seen = [share(11, 0.0), share(12, 0.2), share(13, 0.0), share(14, 0.2), metric(15, 0.9, n=500)]
    assert found(seen, minute=15) == ("waiting", "converging")
    assert found(seen, minute=25) == ("failed", "not_converged")


def test_a_retired_release_with_no_units_of_its_own_counts():
    seen = [
        share(11, 0.0, n=0),
        share(12, 0.0, n=0),
        share(11, 1.0, release="2.3"),
        share(12, 1.0, release="2.3"),
    ]
    assert found(seen, minute=13) == ("waiting", "recovering")


def test_buckets_without_traffic_do_not_count():
    seen = [share(minute, 0.0, n=0) for minute in range(11, 20)]
    assert found(seen, minute=20) == ("waiting", "converging")
    assert found(seen, minute=25) == ("failed", "not_converged")


def test_units_before_convergence_do_not_count():
    seen = [
        share(11, 0.0),
        share(12, 0.0),
        metric(11, 0.9, n=500),
        metric(12, 0.9, n=500),
        metric(13, 0.9, n=199),
    ]
    assert found(seen, minute=14) == ("waiting", "recovering")
    assert found([*seen, metric(14, 0.9, n=1)], minute=14) == ("recovered", "recovered")


@pytest.mark.parametrize(
    ("direction", "mean", "back"),
    [
        ("higher", 0.8, False),
        ("higher", 1.0, True),
        ("lower", 0.8, True),
        ("lower", 1.0, False),
        ("neutral", 1.0, False),
        ("neutral", 0.89, True),
    ],
)
def test_the_direction_says_what_worse_is(direction, mean, back):
    seen = [share(11, 0.0), share(12, 0.0), metric(13, mean, n=2000, direction=direction)]
    assert (found(seen, minute=14)[0] == "recovered") == back
    assert found(seen, minute=131) == (("recovered", "recovered") if back else ("failed", "not_recovered"))


def test_without_any_baseline_nothing_is_back():
    seen = [share(11, 0.0), share(12, 0.0), metric(13, 0.9, n=500, baseline=None)]
    assert found(seen, minute=14) == ("waiting", "recovering")
    assert found(seen, minute=14, baseline=0.9) == ("recovered", "recovered")


def test_a_release_that_comes_back_is_not_recovered():
    seen = [share(11, 0.0), share(12, 0.0), metric(13, 0.9, n=500), share(13, 0.3)]
    assert found(seen, minute=14) == ("waiting", "recovering")
    assert found(seen, minute=130) == ("failed", "not_recovered")


buckets = st.integers(1, 40)
seen_anything = st.lists(
    st.one_of(
        st.builds(share, buckets, st.sampled_from([0.0, 0.001, 0.2]), n=st.integers(0, 300)),
        st.builds(metric, buckets, st.floats(0, 1), n=st.integers(0, 300)),
    ),
    max_size=30,
)


@given(seen_anything, st.integers(10, 200), st.randoms())
def test_the_verdict_rests_on_data_and_not_on_its_order(seen, minute, random):
    unique = list({(one.test, one.at_ms): one for one in seen}.values())
    verdict = found(unique, minute=minute)
    random.shuffle(unique)
    assert found(unique, minute=minute) == verdict
    if verdict[0] == "recovered":
        clean = [
            one for one in unique if one.test == "share" and one.at_ms > CALL and one.mean <= 0.001 and one.n
        ]
        assert len(clean) >= 2
        assert sum(one.n for one in unique if one.test == "reference") >= 200
    if minute >= 10 + 120:
        assert verdict[0] != "waiting"
