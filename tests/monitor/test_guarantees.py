"""The promises, by simulation: false alarms of a monitor, and of a plain martingale."""

import numpy as np
import pytest

from nervecode.monitor import Monitor
from nervecode.monitor.bettors import LOG_WEIGHTS, UNIT, prices


def p_values(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Of a stream that is exchangeable with its calibration set."""
    calibration = np.sort(rng.normal(size=n))
    return (1 + n - np.searchsorted(calibration, rng.normal(size=length))) / (n + 1)


def plain_martingale(p: np.ndarray, n: int) -> float:
    """ln of the largest value of the mixture, were p-values independent and uniform."""
    grid = prices(np.arange(1, n + 2) / (n + 1)).mean(0) / UNIT
    return float(
        np.logaddexp.reduce(np.log(prices(p) / UNIT / grid).cumsum(0) + LOG_WEIGHTS, 1).max()
    )


def false_alarms(n: int, streams: int, length: int, alpha: float) -> tuple[float, float]:
    """Shares of streams with an alarm: the monitor's, and the plain martingale's."""
    rng = np.random.default_rng(n)
    ours = plain = 0
    for _ in range(streams):
        p = p_values(rng, n, length)
        monitor = Monitor(n, alpha=alpha)
        monitor.update_many(p)
        ours += monitor.alarm is not None
        plain += plain_martingale(p, n) >= -np.log(alpha)
    return ours / streams, plain / streams


def run_lengths(n: int, streams: int, length: int, stated: float) -> np.ndarray:
    """Inputs to the first alarm, `length` where there is none: too short rather than too long."""
    rng = np.random.default_rng(n)
    inputs = []
    for _ in range(streams):
        monitor = Monitor(n, run_length=stated)
        monitor.update_many(p_values(rng, n, length))
        inputs.append(monitor.alarm.input if monitor.alarm else length)
    return np.array(inputs)


def test_a_plain_martingale_breaks_on_a_fixed_calibration_set_and_ours_holds() -> None:
    ours, plain = false_alarms(n=50, streams=60, length=4000, alpha=0.05)
    assert plain > 0.3
    assert ours <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_the_stated_run_length_is_reached() -> None:
    found = run_lengths(n=100, streams=60, length=1000, stated=100)
    assert found.mean() >= 100 - 2 * found.std() / np.sqrt(60)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_false_alarms_over_a_thousand_streams(n: int) -> None:
    ours, plain = false_alarms(n, streams=1000, length=10_000, alpha=0.05)
    assert ours <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert plain > ours


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_a_run_length_of_a_thousand_is_reached(n: int) -> None:
    found = run_lengths(n, streams=1000, length=10_000, stated=1000)
    assert found.mean() >= 1000


@pytest.mark.slow
def test_ten_million_inputs_neither_grow_nor_drift() -> None:
    rng = np.random.default_rng(0)
    calibration = np.sort(rng.normal(size=1000))
    monitor, total = Monitor(1000, run_length=1e9), 0
    for _ in range(100):
        p = (1001 - np.searchsorted(calibration, rng.normal(size=100_000))) / 1001
        monitor.update_many(p)
        total += prices(p).sum(0)
    start = prices(np.arange(1, 1002) / 1001).sum(0)
    assert (monitor._stream.reference.sums[0] == start + total).all()
    assert monitor.inputs == 10_000_000 and np.isfinite(monitor.log10_evidence)
