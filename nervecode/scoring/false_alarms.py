"""False alarms of one calibration set: how many it may raise, with a stated confidence.

The promise P(p <= alpha) <= alpha is an average over calibration sets. Given the set, the rate of
false alarms is P(S >= c) for its k-th largest score c, k = floor(alpha (n + 1)): the k-th smallest
of n uniform numbers, which follows Beta(k, n + 1 - k) for continuous scores, and is below it where
scores tie. Vovk 2012, https://proceedings.mlr.press/v25/vovk12.html; Bates et al. 2023,
https://doi.org/10.1214/22-AOS2244.
"""

from __future__ import annotations

import math
from functools import lru_cache
from numbers import Integral

import torch

from nervecode.errors import InputError
from nervecode.rates import ROUNDING, check_rate

CONFIDENCE = 0.95  # of the rates that are shown
STEPS = 60  # of the bisections, which halve an interval of length 1


def false_alarm_bound(n: int, alpha: float, *, confidence: float = CONFIDENCE) -> float:
    """The rate that false alarms at p <= alpha do not exceed, for a share of calibration sets.

    Args:
        n: the number of calibration inputs.
        alpha: what p-values are flagged up to.
        confidence: the share of the calibration sets of n inputs for which it holds.

    Returns:
        The `confidence` quantile of Beta(k, n + 1 - k); 0 where alpha flags nothing.

    Raises:
        InputError: alpha or confidence outside (0, 1), or no calibration inputs.
    """
    _check(n, alpha=alpha, confidence=confidence)
    return _quantile(n, rank_of(n, alpha), confidence)


def alpha_within(n: int, rate: float, *, confidence: float = CONFIDENCE) -> float:
    """The largest alpha whose false alarms do not exceed a rate, for a share of calibration sets.

    Args:
        n: the number of calibration inputs.
        rate: the fraction of ID inputs that may be flagged.
        confidence: the share of the calibration sets of n inputs for which it holds.

    Returns:
        k / (n + 1), with `false_alarm_bound(n, k / (n + 1)) <= rate`.

    Raises:
        InputError: numbers outside (0, 1), or too few calibration inputs for the rate; the smallest
            rate that they can promise is named.
    """
    _check(n, rate=rate, confidence=confidence)
    return _largest(n, rate, confidence) / (n + 1)


def promise(n: int, alpha: float, *, confidence: float = CONFIDENCE) -> str:
    """What n calibration inputs promise of flags at p <= alpha, in words."""
    most = false_alarm_bound(n, alpha, confidence=confidence)
    return (
        f"of inputs like the {n} of calibration, p <= {alpha:g} flags at most {100 * alpha:g} % on "
        f"average over calibration sets, and by this very set at most {100 * most:.2g} %, with "
        f"{100 * confidence:g} % confidence"
    )


def rounded_up(bound: float, *, digits: int = 3) -> str:
    """A bound above 0 in so many digits, never less than it is, so that what is shown will do."""
    shown = f"{bound:.{digits}g}"
    if float(shown) < bound:
        step = 10.0 ** (math.floor(math.log10(bound)) - digits + 1)
        shown = f"{float(shown) + step:.{digits}g}"
    return shown


def excess(m: int, flagged: int, n: int, alpha: float, *, chance: float) -> bool:
    """Whether so many of m inputs like the n of calibration have p <= alpha by less than a chance.

    Half of the chance is for the calibration set, whose own rate is below `false_alarm_bound`, and
    half for the m inputs, whose number of flags is then at most binomial.
    """
    rate = false_alarm_bound(n, alpha, confidence=1 - chance / 2)
    return flagged > 0 and (rate == 0 or _at_least(m, flagged, rate) < chance / 2)


def rank_of(n: int, alpha: float) -> int:
    """floor(alpha (n + 1)) = k: p <= alpha for scores above the k-th largest of n."""
    return math.floor(alpha * (n + 1) + ROUNDING)


@lru_cache(maxsize=1024)
def _largest(n: int, rate: float, confidence: float) -> int:
    """The largest k whose quantile is at most the rate."""
    smallest = _quantile(n, 1, confidence)
    if smallest > rate:
        needed = math.ceil(math.log1p(-confidence) / math.log1p(-rate))
        raise InputError(
            f"flag alpha: found {rate} at confidence {confidence}, allowed: "
            f"{rounded_up(smallest)} or more, as there are {n} calibration inputs; "
            f"{needed} serve {rate}"
        )
    low, high = 1, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = _at_least(n, middle, rate) >= confidence
        low, high = (middle, high) if fits else (low, middle)
    return low


@lru_cache(maxsize=1024)
def _quantile(n: int, k: int, confidence: float) -> float:
    """The x with P(Beta(k, n + 1 - k) <= x) = confidence, from above."""
    if not 0 < k <= n:
        return float(k > 0)
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        enough = _at_least(n, k, middle) >= confidence
        low, high = (low, middle) if enough else (middle, high)
    return high


def _at_least(n: int, k: int, x: float) -> float:
    """P(Bin(n, x) >= k), which is P(Beta(k, n + 1 - k) <= x): a sum over j below k, or from k on.

    By Bernstein's inequality all terms beyond `reach` from the mean n x, or from k, are below
    e^-700 of the others, and are left out.
    """
    below = k <= n + 1 - k
    reach = math.ceil(40 * math.sqrt(n * x * (1 - x)) + 2000)
    mean = math.floor(n * x)
    if below:
        terms = range(max(0, min(mean, k) - reach), min(k, mean + reach))
    else:
        terms = range(max(k, mean - reach), min(n, max(mean, k) + reach) + 1)
    j = torch.arange(terms.start, max(terms.start, terms.stop), dtype=torch.float64, device="cpu")
    choose = math.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(n - j + 1)
    tail = (choose + j * math.log(x) + (n - j) * math.log1p(-x)).exp().sum().item()
    return 1 - tail if below else tail


def _check(n: object, **fractions: float) -> None:
    if not isinstance(n, Integral) or n < 1:
        raise InputError(f"calibration inputs: found {n!r}, allowed: a whole number, 1 or more")
    for name, value in fractions.items():
        check_rate(name, value)
