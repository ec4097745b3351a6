"""Bettors: each puts its money on one kind of change, as a price of every p-value.

A bettor's price list b(p) is positive and else arbitrary: what keeps its promise is that an input's
price is divided by the average price that exchangeable inputs pay (`reference.py`).
"""

from __future__ import annotations

import numpy as np

# Prices are whole numbers of 2^-20, so that sums of any length are exact and in any order the same.
UNIT = 1 << 20
EXPONENTS = np.array([0.0, -0.95, -0.9, -0.8, -0.5, 1.0, 2.0, 3.0])


Density = dict[float, float]  # exponent -> coefficient of a sum of powers of p
_GENTLE = {0.0: 2.0, 1.0: -2.0}  # 2 (1 - p)
_TOPLESS = {0.0: 4.0, 1.0: -12.0, 2.0: 12.0, 3.0: -4.0}  # 4 (1 - p)^3: hardly any p near 1
_ENDS = {0.0: 3.0, 1.0: -12.0, 2.0: 12.0}  # 3 (1 - 2 p)^2
_MIDDLE = {1.0: 6.0, 2.0: -6.0}  # 6 p (1 - p)


def _power(exponent: float) -> Density:
    return {exponent: 1 + exponent}


def _share(share: float, density: Density) -> Density:
    """A share of the inputs has this density of p-values, the rest is as ever."""
    mixed = {exponent: share * coefficient for exponent, coefficient in density.items()}
    return {**mixed, 0.0: 1 - share + mixed.get(0.0, 0.0)}


# (what it bets on, its price list, weight). All have mean 1 over (0, 1).
_BETTORS: tuple[tuple[str, Density, float], ...] = (
    ("burst", _share(0.95, _power(-0.95)), 0.15),
    ("burst", _share(0.9, _power(-0.8)), 0.10),
    ("rise", _share(0.9, _power(-0.5)), 0.10),
    ("rise", _share(0.4, _power(-0.5)), 0.08),
    ("rise", _share(0.95, _TOPLESS), 0.06),
    ("rise", _share(0.5, _GENTLE), 0.12),
    ("few", _share(0.25, _power(-0.9)), 0.08),
    ("few", _share(0.1, _power(-0.9)), 0.08),
    ("few", _share(0.05, _power(-0.9)), 0.05),
    ("few", _share(0.01, _power(-0.95)), 0.02),
    ("fall", _share(0.3, _power(1.0)), 0.06),
    ("fall", _share(0.8, _power(3.0)), 0.03),
    ("spread", _share(0.5, _ENDS), 0.04),
    ("narrow", _share(0.35, _MIDDLE), 0.03),
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
