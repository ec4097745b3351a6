"""LayerFit: what a fit gathers of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from torch import Tensor

from nervecode.core import ClassMoments, GaussianCode
from nervecode.core.centres import Reservoir, several_codes
from nervecode.core.moments import MomentStream
from nervecode.core.precision import Precision
from nervecode.core.scatter import sketch_of
from nervecode.errors import InputError


class LayerFit:
    """One layer: moments per class, and a sample where classes may have several codes."""

    def __init__(self, num_classes: int, like: Tensor, codes_per_class: int, rank: int) -> None:
        self.dim = like.shape[1]
        self.stream = new_stream(num_classes, like, rank)
        self.reservoir = Reservoir(num_classes) if codes_per_class > 1 else None
        self.codes_per_class = codes_per_class
        self.rank = rank

    def update(self, z: Tensor, groups: Tensor) -> None:
        """Add (B, D) vectors and their (B,) classes.

        Raises:
            InputError: vectors of another width than before, or that are not finite.
        """
        if z.shape[1] != self.dim:
            raise InputError(f"found width {z.shape[1]}, in earlier batches {self.dim}")
        self.stream.add(z, groups)
        if self.reservoir is not None:
            self.reservoir.add(z, groups)

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen, as tensors by name."""
        moments = self.stream.moments
        if self.reservoir is None:
            return vars(moments)
        vectors, classes = self.reservoir.held(moments.means)
        return {**vars(moments), "sample": vectors, "sample_classes": classes}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add what the fit of the next shard saw of this layer."""
        self.stream.merge(moments_of(state))
        if self.reservoir is not None:
            self.reservoir.add(state["sample"], state["sample_classes"])

    @property
    def counts(self) -> Tensor:
        """(K,) vectors of each class so far."""
        return self.stream.moments.counts

    def codes(self) -> GaussianCode:
        """The codes of all vectors so far."""
        moments, codes = self.stream.moments, None
        within = Precision.within(moments, self.rank)
        if self.reservoir is not None:
            codes = several_codes(moments, self.reservoir, self.codes_per_class, within)
        return GaussianCode.fit(moments, rank=self.rank, within=within, codes=codes)


def new_stream(num_classes: int, like: Tensor, rank: int) -> MomentStream:
    """For vectors with as many columns as `like`, on its device."""
    return MomentStream(num_classes, like.shape[1], sketch=sketch_of(rank), device=like.device)


def moments_of(state: Mapping[str, Tensor]) -> ClassMoments:
    """Those in a state, which may hold more."""
    return ClassMoments(**{field.name: state[field.name] for field in fields(ClassMoments)})
