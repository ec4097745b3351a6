"""CodeFitter: one streaming pass from activations to fitted codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nervecode.core import ClassMoments, Reducer
from nervecode.core.gaussian import RANK
from nervecode.errors import InputError, NotReadyError
from nervecode.layers.coder import FittedCoder

if TYPE_CHECKING:
    from nervecode.layers.wrap import WrappedModel


class CodeFitter:
    """Gathers the moments of every watched layer, then replaces the coders by fitted ones.

    Args:
        wrapped: the model whose layers are watched.
        reduce: how an activation becomes a vector, see `nervecode.core.Reducer`.
        unit_norm: scale each vector to unit L2 norm.
        rank: directions with a variance of their own, see `nervecode.core.GaussianCode`.

    Use: `with fitter.watching(): model(x)`, then `fitter.update(labels, num_classes)`, for every
    batch; `fitter.finish()` at the end.
    """

    def __init__(
        self,
        wrapped: WrappedModel,
        *,
        reduce: str = "mean_std",
        unit_norm: bool = True,
        rank: int = RANK,
    ) -> None:
        if rank < 1:
            raise InputError(f"rank: found {rank}, allowed: at least 1")
        self.wrapped = wrapped
        self.rank = rank
        chosen = {"name": reduce, "unit_norm": unit_norm}
        self.reducers = {
            name: Reducer(**{**wrapped.coder(name).reducer.spec(), **chosen})
            for name in wrapped.layer_names
        }
        self.moments: dict[str, ClassMoments] = {}
        self._vectors: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, the model runs one batch, and each layer's vectors are kept."""
        by_coder = {id(self.wrapped.coder(name)): r for name, r in self.reducers.items()}
        with self.wrapped.recording(lambda coder, a: by_coder[id(coder)](a)) as vectors:
            yield
        self._vectors = vectors

    def update(self, labels: Tensor | None, num_classes: int) -> None:
        """Add the batch that was watched last.

        Args:
            labels: (B,) classes below `num_classes`; None codes without classes.
            num_classes: K.
        """
        for name, z in self._vectors.items():
            groups = z.new_zeros(len(z), dtype=torch.long) if labels is None else labels
            batch = ClassMoments.of(z, groups, num_classes)
            known = self.moments.get(name)
            self.moments[name] = batch if known is None else known + batch

    def finish(self) -> None:
        """Fit the codes, and put them in the place of the model's coders.

        Raises:
            NotReadyError: no batch was seen.
        """
        if not self.moments:
            raise NotReadyError("fit: the loader gave no batch, or no watched layer ran")
        coders = {
            name: FittedCoder.from_moments(moments, reducer=self._reducer(name), rank=self.rank)
            for name, moments in self.moments.items()
        }
        self.wrapped.replace_coders(coders)

    def _reducer(self, name: str) -> Reducer:
        """A repeated module (`name#2`) is reduced as at its first call."""
        return self.reducers[name if name in self.reducers else name.split("#")[0]]
