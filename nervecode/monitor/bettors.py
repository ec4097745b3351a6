"""Bettors: each puts its money on one kind of change, as a price of every p-value.

A bettor's price list b(p) is positive and else arbitrary: what keeps its promise is that an input's
price is divided by the average price that exchangeable inputs pay (`reference.py`).
"""

from __future__ import annotations

import numpy as np

# Prices are whole numbers of 2^-20, so that sums of any length are exact and in any order the same.
UNIT = 1 << 20
EXPONENTS = np.array([0.0, -0.95, -0.9, -0.8, -0.5, 1.0, 2.0, 3.0])


def _share(share: float, exponent: float) -> dict[float, float]:
    """A share of the inputs follows the density proportional to p^exponent, the rest is as ever."""
    return {0.0: 1 - share, exponent: share * (1 + exponent)}


# (what it bets on, {exponent: coefficient} of its price list, weight). All have mean 1 over (0, 1).
_BETTORS: tuple[tuple[str, dict[float, float], float], ...] = (
    ("burst", _share(0.95, -0.95), 0.15),
    ("burst", _share(0.9, -0.8), 0.15),
    ("rise", _share(0.9, -0.5), 0.15),
    ("rise", _share(0.4, -0.5), 0.1),
    ("few", _share(0.25, -0.9), 0.1),
    ("few", _share(0.05, -0.9), 0.1),
    ("few", _share(0.01, -0.95), 0.05),
    ("fall", _share(0.8, 1.0), 0.05),
    ("fall", _share(0.8, 3.0), 0.05),
    ("spread", {0.0: 0.5 + 1.5, 1.0: -6.0, 2.0: 6.0}, 0.05),
    ("narrow", {0.0: 0.3, 1.0: 4.2, 2.0: -4.2}, 0.05),
)
KINDS = tuple(kind for kind, _, _ in _BETTORS)
LOG_WEIGHTS = np.log([weight for _, _, weight in _BETTORS])
_COEFFICIENTS = UNIT * np.array(
    [[terms.get(exponent, 0.0) for _, terms, _ in _BETTORS] for exponent in EXPONENTS.tolist()]
)
WORDS = {
    "burst": "inputs are far more surprising",
    "rise": "inputs are more surprising",
    "few": "a few inputs are far more surprising",
    "fall": "inputs are less surprising",
    "spread": "inputs are both more and less surprising",
    "narrow": "inputs are neither as plain nor as surprising as they were",
}


def prices(p_values: np.ndarray) -> np.ndarray:
    """(...) p-values in (0, 1] -> (..., B) prices in units, int64."""
    powers = np.power(p_values[..., None], EXPONENTS)
    paid: np.ndarray = np.rint(powers @ _COEFFICIENTS).astype(np.int64)
    return paid
