"""Calibration: are percentiles and p-values of ID test what they say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import colour, new_figure

ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
BINS = 10
PLACES = 100  # of the curve of percentiles
BAND = (0.025, 0.975)  # the tails outside of every interval here


@dataclass(frozen=True)
class Alarms:
    """The fraction of ID test flagged at p <= alpha, with its exact 95 % interval."""

    alpha: float
    rate: float
    low: float
    high: float


@plot("calibration")
def plot_calibration(saved: Saved) -> Picture:
    """Percentiles, p-values and false-alarm rates of ID test under the default signal."""
    method = saved.meta["primary_method"]
    calibration, scores = saved.scores("id_calibration")[method], saved.scores("id_test")[method]
    figure = new_figure(11, 4.2)
    percentiles, histogram, rates = figure.subplots(1, 3)
    _draw_percentiles(percentiles, calibration, scores)
    _draw_histogram(histogram, p_values(calibration, scores), len(calibration))
    _draw_rates(rates, false_alarms(saved, ALPHAS))
    caption = (
        f"{method}, seed {saved.seed}: {len(scores):,} ID test inputs against {len(calibration):,} "
        "ID calibration inputs. Bands hold 95 % of exchangeable inputs (beta-binomial, so the "
        "chance in both samples counts); whiskers are Clopper and Pearson's 95 % intervals. Each "
        "band is for its own place, so one place in twenty may lie outside."
    )
    return Picture(figure, "calibration on ID test", caption)


def p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) and (N,) scores -> (N,) conformal p-values, (1 + #{calibration >= s}) / (n + 1)."""
    above = len(calibration) - np.searchsorted(np.sort(calibration), scores, side="left")
    values: np.ndarray = (1 + above) / (len(calibration) + 1)
    return values


def false_alarms(saved: Saved, alphas: Sequence[float]) -> list[Alarms]:
    """False-alarm rates of the default signal on ID test."""
    method = saved.meta["primary_method"]
    values = p_values(saved.scores("id_calibration")[method], saved.scores("id_test")[method])
    return [alarms(int((values <= alpha).sum()), len(values), alpha) for alpha in alphas]


def alarms(flagged: int, n: int, alpha: float) -> Alarms:
    """`flagged` of `n` inputs as a rate with its interval, Clopper and Pearson's (1934)."""
    from scipy.special import betaincinv

    low = float(betaincinv(flagged, n - flagged + 1, BAND[0])) if flagged else 0.0
    high = float(betaincinv(flagged + 1, n - flagged, BAND[1])) if flagged < n else 1.0
    return Alarms(alpha, flagged / n, low, high)


def bound(n: int, alpha: float) -> float:
    """The rate of false alarms that n calibration inputs stay below with 95 % confidence.

    A quantile of Beta(k, n + 1 - k) with k = floor(alpha (n + 1)): Vovk 2012.
    """
    from scipy.special import betaincinv

    k = int(alpha * (n + 1) + 1e-9)
    return float(betaincinv(k, n + 1 - k, 0.95)) if k else 0.0


def observed_percentiles(
    calibration: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected (P,) and observed (P,) percentiles, and the (2, P) band of exchangeable inputs.

    All are fractions, from 0 to 1.

    Below the k-th smallest of n calibration scores lie BetaBinomial(N, k, n + 1 - k) of N others.
    """
    n, trials = len(calibration), len(scores)
    k = np.unique(np.linspace(1, n, PLACES).round().astype(int))
    below = np.searchsorted(np.sort(scores), np.sort(calibration)[k - 1], side="left")
    band = np.stack([beta_binomial(trials, rank, n + 1 - rank) for rank in k], axis=1)
    return k / (n + 1), below / trials, band / trials


def beta_binomial(trials: int, a: float, b: float) -> np.ndarray:
    """(2,) quantiles at `BAND` of BetaBinomial(trials, a, b).

    scipy.stats has them too, but sums the law anew for every guess: minutes for large sets.
    """
    from scipy.special import betaln, gammaln

    x = np.arange(trials + 1)
    choose = gammaln(trials + 1) - gammaln(x + 1) - gammaln(trials - x + 1)
    law = np.exp(choose + betaln(x + a, trials - x + b) - betaln(a, b))
    return np.asarray(np.searchsorted(np.cumsum(law), BAND))


def _draw_percentiles(axes: Axes, calibration: np.ndarray, scores: np.ndarray) -> None:
    expected, observed, band = observed_percentiles(calibration, scores)
    axes.fill_between(100 * expected, *(100 * band), color="#DDDDDD", lw=0, label="95 % band")
    axes.plot([0, 100], [0, 100], ":", color="#777777", lw=1, label="as promised")
    axes.plot(100 * expected, 100 * observed, color=colour(0), lw=1.6, label="ID test")
    axes.set_title("Percentiles")
    axes.set_xlabel("percentile of ID calibration (%)")
    axes.set_ylabel("ID test at or below (%)")
    axes.legend(loc="upper left")


def _draw_histogram(axes: Axes, values: np.ndarray, n: int) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.histogram(values, edges)[0]
    # A bin holds a share of the n + 1 ranks; chance in both samples widens its band.
    low, high = beta_binomial(len(values), (n + 1) / BINS, (n + 1) * (1 - 1 / BINS))
    band = 100 * low / len(values), 100 * high / len(values)
    axes.axhspan(*band, color="#DDDDDD", lw=0)
    axes.axhline(100 / BINS, ls=":", color="#777777", lw=1)
    axes.bar(edges[:-1], 100 * counts / len(values), 1 / BINS, align="edge", color=colour(0),
             edgecolor="white", alpha=0.8)  # fmt: skip
    axes.set_title("p-values")
    axes.set_xlabel("p-value")
    axes.set_ylabel("ID test (%)")


def _draw_rates(axes: Axes, measured: Sequence[Alarms]) -> None:
    alpha = 100 * np.array([rates.alpha for rates in measured])
    rate = 100 * np.array([rates.rate for rates in measured])
    ends = 100 * np.array([(rates.low, rates.high) for rates in measured]).T
    whiskers = np.abs(ends - rate)
    end = alpha[-1] * 1.1
    axes.plot([0, end], [0, end], ":", color="#777777", lw=1, label="as promised")
    axes.errorbar(alpha, rate, whiskers, fmt="o", ms=4, lw=1.2, color=colour(0), label="ID test")
    axes.set_title("False alarms")
    axes.set_xlabel("alpha: flagged where p ≤ alpha (%)")
    axes.set_ylabel("ID test flagged (%)")
    axes.legend(loc="upper left")
