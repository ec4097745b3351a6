"""Values: ranges of numbers, and what several sections allow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

Fraction = Annotated[float, Field(strict=True, gt=0, lt=1)]
# Sizes end where a typing error would otherwise fill the memory, or never come to an end.
Count = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
Size = Annotated[int, Field(strict=True, ge=1, le=4096)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]

MAX_OPTION = 1_000_000  # of a detector: neighbours, axes, components, temperatures


def _option(value: Any) -> Any:
    # Here and not by the type, whose union would name each of its branches as a key.
    if not isinstance(value, (bool, int, float)):
        raise ValueError(f"found {value!r}, allowed: a number, true or false")
    if not abs(value) <= MAX_OPTION:  # nor NaN
        raise ValueError(f"found {value!r}, allowed: at most {MAX_OPTION:,}")
    return value


Option = Annotated[bool | int | float, BeforeValidator(_option)]


def _selectors(layers: Any) -> Any:
    # Here and not by the type, whose union would name each of its branches as a key.
    several = isinstance(layers, (list, tuple)) and all(isinstance(n, str) for n in layers)
    if not layers or not (isinstance(layers, str) or several):
        raise ValueError(f"found {layers!r}, allowed: a selector of layers, or a list of them")
    return layers


Selectors = Annotated[str | tuple[str, ...], BeforeValidator(_selectors)]
