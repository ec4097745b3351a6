"""The selection from files and the library's are both that of a plain loop in exact fractions."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.selection import selected
from nervecode.scoring import select

Drawn = tuple[int, list[int]]  # calibration inputs n; k of the p-values k / (n + 1)
drawn = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n + 1), min_size=1, max_size=60))
)
rates = st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=100)


def by_loop(p_values: list[Fraction], rate: Fraction) -> list[bool]:
    """Benjamini and Hochberg, as the paper has it."""
    largest = Fraction(0)
    for i, p in enumerate(sorted(p_values), start=1):
        if len(p_values) * p <= rate * i:
            largest = p
    return [p <= largest for p in p_values]


def from_files(p_values: np.ndarray, rate: float) -> list[bool]:
    n, numbers = len(p_values), np.zeros(len(p_values))
    rows = Scored(
        ids=np.arange(n).astype(np.str_), surprise=numbers, percentile=numbers, p_value=p_values,
        prediction=numbers, by_layer=np.zeros((n, 1)), layers=("a",),
    )  # fmt: skip
    return next(selected(lambda: [rows], rate)).flag.tolist()


def check(n: int, found: list[int], rate: Fraction) -> None:
    expected = by_loop([Fraction(k, n + 1) for k in found], rate)
    rounded = np.array([k / (n + 1) for k in found])
    assert select(torch.from_numpy(rounded), float(rate)).tolist() == expected
    assert from_files(rounded, float(rate)) == expected


@given(drawn, rates)
def test_selection_of_conformal_p_values(drawn: Drawn, rate: Fraction) -> None:
    check(*drawn, rate)


@given(drawn, st.data())
def test_selection_where_a_p_value_equals_the_rate(drawn: Drawn, data: st.DataObject) -> None:
    n, found = drawn
    i = data.draw(st.integers(1, len(found)))
    rate = Fraction(len(found) * sorted(found)[i - 1], (n + 1) * i)
    assume(rate < 1)
    check(n, found, rate)
