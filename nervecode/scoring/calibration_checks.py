"""What can be calibrated on, and which traces fit a calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.scoring.readings import finite_readings
from nervecode.scoring.tables import CODE_LENGTH, METHODS


def check(
    layers: Mapping[str, Tensor],
    method: str,
    standard: Mapping[str, Tensor] | None,
) -> None:
    """Refuse what cannot be calibrated on.

    Args:
        layers: name -> `readings` of the calibration inputs.
        method: how layers are aggregated.
        standard: name -> `readings` of the inputs that scores are made of, if these are others.

    Raises:
        InputError: another method, other layers in `standard`, or inputs that differ in number.
        NotReadyError: `code_length` for learned codes.
    """
    if standard is not None and (other := {*layers} ^ {*standard}):
        there = "calibrated" if min(other) in layers else "in standard"
        raise InputError(
            f"calibrate standard: layer {min(other)!r} is {there} alone, allowed: the same layers"
        )
    if method not in METHODS:
        allowed = did_you_mean(method, METHODS)
        raise InputError(f"calibrate method: found {method!r}; {allowed}")
    if method == CODE_LENGTH and any(pair.shape[1] < 2 for pair in layers.values()):
        raise NotReadyError("calibrate: code_length needs fitted codes; call fit(loader) first")
    sizes = {name: len(pair) for name, pair in layers.items()}
    if len({*sizes.values()}) > 1:
        raise InputError(f"calibrate: found {sizes} inputs, allowed: as many in each layer")
    if not any(sizes.values()):
        raise InputError("calibration scores: found none, allowed: at least 2")


def misfit(
    traces: Mapping[str, CodingTrace],
    layers: Collection[str],
    predicted: Tensor | None,
    *,
    needed: bool,
) -> str:
    """Why traces are not of the layers that were calibrated, in words; empty where they are.

    Args:
        traces: those of one call.
        layers: the calibrated ones.
        predicted: (B,) predicted classes.
        needed: whether these have to be there.
    """
    missing = [name for name in layers if name not in traces]
    if missing:
        return f"layer {missing[0]!r} was calibrated and did not run, or could not be coded"
    sizes = {name: trace.surprise.shape[0] for name, trace in traces.items()}
    first = next(iter(sizes))
    for name, number in sizes.items():
        if number != sizes[first]:
            return f"layer {name!r} has {number} inputs, layer {first!r} {sizes[first]}"
    if needed and (predicted is None or predicted.shape[0] != sizes[first]):
        return "the predicted classes are not known; score(x) reads them from (B, K) outputs"
    return ""


def finite_rows(pairs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The readings of the inputs that are finite in every layer.

    Raises:
        InputError: there is none; a layer that is never finite is named.
    """
    finite = finite_readings(pairs)
    if len(finite) and not finite.any():
        name = next(
            (n for n, p in pairs.items() if not p.isfinite().all(1).any()), next(iter(pairs))
        )
        raise InputError(f"surprise of layer {name!r}: found NaN or infinity in every input")
    return {name: pair[finite] for name, pair in pairs.items()}
