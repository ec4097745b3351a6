"""Coders as plain JSON values say of them, for what is read from a file."""

from __future__ import annotations

from typing import Any

import torch

from nervecode.core import GaussianCode, LabelCode, Reducer, SoftAssignment
from nervecode.errors import InputError
from nervecode.layers.coder import Coder, UnseenCoder
from nervecode.layers.coders.fitted import FittedCoder
from nervecode.layers.coders.label import LabelCoder
from nervecode.layers.coders.learned import LearnedCoder
from nervecode.layers.guard.restored import own_random_numbers


def coder_from_spec(spec: dict[str, Any]) -> Coder:
    """An untrained coder of the shape that `Coder.spec` described.

    Raises:
        InputError: a spec of an unknown kind.
    """
    # What is made in inference mode could not be used outside of it.
    with torch.inference_mode(False), own_random_numbers():
        return _coder(spec, Reducer(**_present(spec["reducer"])))


def _coder(spec: dict[str, Any], reducer: Reducer) -> Coder:
    if spec["kind"] == "fitted":
        sizes = spec["num_codes"], spec["dim"], spec["rank"]
        between = spec.get("between")  # files from before do not tell
        codes = GaussianCode(*sizes, num_classes=spec.get("num_classes"), between=between)
        return FittedCoder(codes, reducer=reducer)
    if spec["kind"] == "learned":
        return LearnedCoder(
            spec["in_features"],
            num_codes=spec["num_codes"],
            coding_dim=spec["coding_dim"],
            assignment=SoftAssignment(*spec["assignment"]),
            reducer=reducer,
            detach=spec["detach"],
            guess=spec.get("guess"),
        )
    if spec["kind"] == "label":
        return LabelCoder(LabelCode(spec["dim"], spec["rank"]))
    if spec["kind"] == "unseen":
        return UnseenCoder(reducer)
    raise InputError(f"coder kind: found {spec['kind']!r}, allowed: fitted, label, learned, unseen")


def _present(reducer: dict[str, Any]) -> dict[str, Any]:
    """The spec of a reducer, also where it is of a file from before `length_power`."""
    rest = {key: value for key, value in reducer.items() if key != "unit_norm"}
    return {"length_power": 0.0 if reducer.get("unit_norm") else 1.0, **rest}
