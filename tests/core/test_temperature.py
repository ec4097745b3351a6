"""Temperature schedules at their ends and in the middle."""

import math

import pytest

from nervecode.core import CosineTemperature, FixedTemperature
from nervecode.errors import InputError


def test_fixed() -> None:
    assert [FixedTemperature(0.5)(step) for step in (0, 7, 10**6)] == [0.5] * 3


def test_cosine() -> None:
    schedule = CosineTemperature(2.0, 0.5, 100)
    assert schedule(0) == schedule(-3) == 2.0
    assert schedule(50) == pytest.approx(1.25)
    assert schedule(25) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule(100) == schedule(1000) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: FixedTemperature(0), "temperature value: found 0"),
        (lambda: CosineTemperature(-1, 1, 5), "temperature start: found -1"),
        (lambda: CosineTemperature(1, math.nan, 5), "temperature end: found nan"),
        (lambda: CosineTemperature(1, 1, 0), "temperature steps: found 0"),
    ],
)
def test_bad_numbers_are_named(build, text: str) -> None:
    with pytest.raises(InputError, match=text):
        build()
