"""LearnedCoder, recipe `v0_1_1`: a learned projection and a codebook trained by gradient."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import Codebook, CodingTrace, Reducer, SoftAssignment
from nervecode.errors import InputError, check_count
from nervecode.layers.batch.sketch import input_hashes
from nervecode.layers.coder import Coder
from nervecode.layers.guard.restored import own_random_numbers


class LearnedCoder(Coder):
    """Recipe `v0_1_1`: project to `coding_dim`, assign softly to K learned centres.

    Args:
        in_features: D of the reduced vector; None finds it at the first forward.
        num_codes: K.
        coding_dim: width of the learned projection.
        assignment: temperature and the three weights of the surprise.
        reducer: how an activation becomes a vector.
        detach: learn the codes without a gradient into the model.
        guess: what D probably is, where it is None: the width of the projection until then.

    The surprise of its trace is in nats, as it was in 0.1.1.
    """

    def __init__(
        self,
        in_features: int | None,
        *,
        num_codes: int = 16,
        coding_dim: int = 8,
        assignment: SoftAssignment | None = None,
        reducer: Reducer | None = None,
        detach: bool = False,
        guess: int | None = None,
    ) -> None:
        super().__init__(reducer or Reducer("mean"))
        check_count("coding_dim", coding_dim)
        self.codebook = Codebook(num_codes, coding_dim)
        self.settled = in_features is not None
        with nullcontext() if self.settled else own_random_numbers():
            self.projection = nn.Linear(in_features or guess or 1, coding_dim, bias=False)
        self._drawn = self.projection.weight._version
        self._draw = self._hashes()
        self.assignment = assignment or SoftAssignment()
        self.detach = detach

    @property
    def trains_model(self) -> bool:
        """Unless the codes are learned by themselves."""
        return not self.detach

    @property
    def is_untrained(self) -> bool:
        """Whether centres and projection have the values that were drawn at random."""
        hashes = self._hashes()
        if hashes.is_meta or self._draw.is_meta:  # which have no values
            return False
        return torch.equal(hashes.cpu(), self._draw.cpu())

    def _hashes(self) -> Tensor:
        """(2,) int64: of the centres and of the projection, without waiting for the device.

        Versions would miss writes through `.data` and fused optimisers, and a copy begins anew.
        """
        weights = (self.codebook.centres.detach(), self.projection.weight.detach())
        local = [w.to_local() if hasattr(w, "to_local") else w for w in weights]  # of shards
        return torch.cat([input_hashes(weight.float()[None]) for weight in local])

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors; gradients reach the projection and the centres.

        Raises:
            InputError: a vector of another width than the projection takes.
        """
        vector = vector.to(self.codebook.centres.dtype)
        if self.detach:
            vector = vector.detach()
        fits = vector.shape[1] == self.projection.in_features
        if not self.settled and (fits or not torch.compiler.is_compiling()):  # which draws nothing
            self._settle(vector)
        if vector.shape[1] != self.projection.in_features:
            hint = "" if self.settled else "; run one forward before torch.compile"
            raise InputError(
                f"vector: found width {vector.shape[1]}, allowed: {self.projection.in_features}"
                f"{hint}"
            )
        projected = self.projection(vector)
        code = self.codebook(projected, self.assignment)
        return CodingTrace(self.assignment.surprise(code), code, projected)

    def _settle(self, vector: Tensor) -> None:
        """Take the width of the vectors; weights that were not initialised or loaded are drawn.

        The parameter stays the same object, and the model's random numbers what they would be.
        """
        self.settled = True
        weight, width = self.projection.weight, vector.shape[1]
        compiling = torch.compiler.is_compiling()
        if width == self.projection.in_features and (compiling or weight._version != self._drawn):
            return
        self.projection.in_features = width
        with torch.inference_mode(False), own_random_numbers(vector.device):
            weight.data = weight.new_empty(self.codebook.dim, width)
            self.projection.reset_parameters()
            self._draw = self._hashes()

    def spec(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain JSON values."""
        a = self.assignment
        return {
            "kind": "learned",
            "in_features": self.projection.in_features if self.settled else None,
            "guess": self.projection.in_features,
            "num_codes": self.codebook.num_codes,
            "coding_dim": self.codebook.dim,
            "assignment": [a.temperature, a.beta_length, a.beta_entropy, a.beta_distance],
            "detach": self.detach,
            "reducer": self.reducer.spec(),
        }
