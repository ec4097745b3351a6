"""Mondrian: conformal p-values within the predicted class, or of weighted calibration inputs."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.rates import ROUNDING
from nervecode.scoring.percentiles import ALPHA, number_below

OWN = math.ceil(1 / ALPHA) - 1  # calibration inputs that a class needs for p-values of its own
ALL = 0  # the group of all calibration inputs


class Mondrian(NamedTuple):
    """Calibration scores in groups: one of all of them, and one of each class that has enough.

    An input is compared with the group of its predicted class. Where that has fewer than `OWN`
    calibration inputs it is pooled: compared with all. Of ID inputs that are predicted as a class
    of its own, at most a fraction alpha has p <= alpha (Vovk, Gammerman and Shafer 2005, section
    4.5); of all inputs that are pooled this does not follow, as for the null cluster of Ding et al.
    2023, https://arxiv.org/abs/2306.09335.

    Calibration inputs of other weight than 1 stand for a stream with a known shift of covariates:

        p(s) = (w + sum of w_i with s_i >= s) / (w + sum of w_i)

    with w_i the density of the stream over that of the calibration data at input i, up to a factor
    (Tibshirani et al. 2019, https://arxiv.org/abs/1904.06019). The weight w of the input itself is
    taken as the largest of its group, since p rises with w: this is safe for an input of no more.

    Attributes:
        ordered: (n,) all scores, sorted, float64.
        keys: (m,) group and rank of every member of a group, as one number, sorted.
        above: (m + 1,) the weight of the members before each place.
        ends: (G,) where each group ends in `keys`.
        totals: (G,) the weight of each group.
        heaviest: (G,) the largest weight in each group.
        group_of: (K + 1,) the group of each class; the last is that of all others.
    """

    ordered: Tensor
    keys: Tensor
    above: Tensor
    ends: Tensor
    totals: Tensor
    heaviest: Tensor
    group_of: Tensor

    @classmethod
    def of(
        cls, scores: Tensor, classes: Tensor | None = None, weights: Tensor | None = None
    ) -> Mondrian:
        """That of (n,) finite scores, their (n,) predicted classes and their (n,) weights."""
        scores = scores.double()
        weights = torch.ones_like(scores) if weights is None else weights.double()
        group_of = _groups(classes)
        ordered = scores.sort().values
        keys = torch.searchsorted(ordered, scores)  # group ALL
        if classes is not None:
            group = group_of[classes]
            own = group != ALL
            keys = torch.cat([keys, group[own] * (len(scores) + 1) + keys[own]])
            weights = torch.cat([weights, weights[own]])
        order = keys.argsort(stable=True)
        keys, weights = keys[order], weights[order]
        groups = torch.arange(1, int(group_of.max()) + 2, device=group_of.device)
        ends = torch.searchsorted(keys, groups * (len(scores) + 1))
        above = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        heaviest = torch.stack([weights[a:b].amax() for a, b in zip(starts, ends, strict=True)])
        return cls(ordered, keys, above, ends, above[ends] - above[starts], heaviest, group_of)

    def p_values(self, scores: Tensor, group: Tensor) -> Tensor:
        """(N,) conformal p-values of (N,) scores without NaN within their (N,) groups."""
        rank = number_below(self.ordered, scores)
        place = number_below(self.keys, group * (len(self.ordered) + 1) + rank)
        weight = self.heaviest[group]
        as_surprising = self.above[self.ends[group]] - self.above[place]
        return (weight + as_surprising) / (weight + self.totals[group])

    def group(self, classes: Tensor) -> Tensor:
        """(N,) the groups of (N,) predicted classes; `ALL` for those that are pooled."""
        return self.group_of[classes.clamp(0, len(self.group_of) - 1)]

    def threshold(self, alpha: float, group: int) -> float:
        """The score above which p <= alpha within a group; infinite where none is."""
        start = int(self.ends[group - 1]) if group else 0
        end, weight = int(self.ends[group]), self.heaviest[group]
        as_surprising = self.above[end] - self.above[start:end]  # as every member, in order
        allowed = alpha * (weight + self.totals[group]) * (1 + ROUNDING) - weight
        if allowed < 0:
            return math.inf
        last = int((as_surprising > allowed).sum()) - 1
        rank = self.keys[start + last] - group * (len(self.ordered) + 1)
        return float(self.ordered[rank])

    def smallest(self) -> float:
        """The smallest p-value that every group can give."""
        return float((self.heaviest / (self.heaviest + self.totals)).max())


def is_class(value: object) -> bool:
    """Whether something is a class: a whole number from 0 on."""
    if isinstance(value, bool):
        return False
    return isinstance(value, Integral) and int(value) >= 0


def effective_size(weights: Tensor) -> float:
    """(sum w)^2 / sum w^2: how many inputs of equal weight say as much (Kish 1965)."""
    return float(weights.sum().square() / weights.square().sum())


def check_weights(weights: Any, number: int, where: str = "") -> Tensor:
    """(n,) float64 weights on the CPU.

    Raises:
        InputError: no numbers, another number of them, or such as are not positive and finite;
            `where` they are is named too, such as " in batch 3".
    """
    try:
        values = torch.as_tensor(weights).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"calibrate weights: found {type(weights).__name__}{where}, "
            f"allowed: ({number},) numbers"
        ) from None
    if values.shape != (number,):
        raise InputError(
            f"calibrate weights: found shape {tuple(values.shape)}{where}, allowed: ({number},), "
            "a weight for each input"
        )
    if not (values.isfinite() & (values > 0)).all():
        raise InputError(
            f"calibrate weights: found 0, less, NaN or infinity{where}, allowed: above 0"
        )
    return values


def _groups(classes: Tensor | None) -> Tensor:
    """(K + 1,) the group of each class: `ALL`, or a number of its own."""
    if classes is None:
        return torch.zeros(1, dtype=torch.long, device="cpu")
    own = torch.bincount(classes, minlength=int(classes.max()) + 2) >= OWN
    return torch.where(own, own.cumsum(0), ALL)
