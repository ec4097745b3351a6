"""The promises, by simulation: false alarms of a monitor, and of a plain martingale.

A thousand streams are simulated at once, in plain numbers rather than logarithms. That this is what
`Monitor` does is checked on some of them.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from nervecode.monitor import Monitor
from nervecode.monitor.bettors import LOG_WEIGHTS, prices

CHECKED = 10  # streams of each simulation that a monitor watches too
WEIGHTS = np.exp(LOG_WEIGHTS)


def ranks(n: int, streams: int, length: int) -> np.ndarray:
    """(T, S) k of p = (k + 1) / (n + 1), each stream with a calibration set of its own."""
    rng = np.random.default_rng(n)
    k = np.empty((streams, length), dtype=np.int32)
    for row in k:
        row[:] = n - np.searchsorted(np.sort(rng.normal(size=n)), rng.normal(size=length))
    return np.ascontiguousarray(k.T)


def evidence(k: np.ndarray, n: int, *, alpha: bool) -> Iterator[np.ndarray]:
    """(S,) evidence of S streams after each of their inputs, by the formulas of the mathematics."""
    table = prices(np.arange(1, n + 2) / (n + 1)).astype(float)
    wealth = np.zeros((k.shape[1], len(WEIGHTS)))
    sums = np.tile(table.sum(0), (k.shape[1], 1))
    for t, row in enumerate(k):
        paid = table[row]
        kept = 1 / np.log2(t + 3) if alpha else 0.0
        wealth += 1 / np.log2(t + 2) - kept if alpha else 1.0
        wealth *= paid * (n + 1 + t) / sums
        sums += paid
        yield wealth @ WEIGHTS + kept


def plain_martingale(k: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """(S,) the same mixture, were p-values independent and uniform."""
    table = prices(np.arange(1, n + 2) / (n + 1)).astype(float)
    wealth = np.ones((k.shape[1], len(WEIGHTS)))
    with np.errstate(over="ignore"):
        for row in k:
            wealth *= (table / table.mean(0))[row]
            yield wealth @ WEIGHTS


def check_monitors(k: np.ndarray, n: int, **promise: float) -> None:
    """The first streams have the same evidence by `Monitor`."""
    some = k[:, :CHECKED]
    simulated = np.array([*evidence(some, n, alpha="alpha" in promise)])
    for column, expected in zip(some.T, simulated.T, strict=True):
        found = Monitor(n, **promise).update_many((column + 1) / (n + 1))
        np.testing.assert_allclose(found, np.log10(expected), rtol=0, atol=1e-8)


def ever(streams: Iterator[np.ndarray], threshold: float) -> float:
    """The share of streams that reach it."""
    return float(np.mean(np.logical_or.reduce([now >= threshold for now in streams])))


def false_alarms(n: int, streams: int, length: int, alpha: float) -> tuple[float, float]:
    """Shares of streams with an alarm: the monitor's, and the plain martingale's."""
    k = ranks(n, streams, length)
    check_monitors(k, n, alpha=alpha)
    ours = ever(evidence(k, n, alpha=True), 1 / alpha)
    return ours, ever(plain_martingale(k, n), 1 / alpha)


def run_lengths(n: int, streams: int, length: int, stated: float) -> np.ndarray:
    """Inputs to the first alarm, `length` where there is none: too short rather than too long."""
    k = ranks(n, streams, length)
    check_monitors(k, n, run_length=stated)
    inputs = np.full(streams, length)
    for t, now in enumerate(evidence(k, n, alpha=False), start=1):
        inputs[(now >= stated) & (inputs == length)] = t
    return inputs


def test_a_plain_martingale_breaks_on_a_fixed_calibration_set_and_ours_holds() -> None:
    ours, plain = false_alarms(n=50, streams=100, length=4000, alpha=0.05)
    assert plain > 0.3
    assert ours <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)


def test_the_stated_run_length_is_reached() -> None:
    inputs = run_lengths(n=100, streams=200, length=1000, stated=100)
    assert inputs.mean() >= 100 - 2 * inputs.std() / np.sqrt(200)


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_false_alarms_over_a_thousand_streams(n: int) -> None:
    ours, plain = false_alarms(n, streams=1000, length=10_000, alpha=0.05)
    assert ours <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert plain > ours


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_a_run_length_of_a_thousand_is_reached(n: int) -> None:
    assert run_lengths(n, streams=1000, length=10_000, stated=1000).mean() >= 1000


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
