"""Coders: reducer + codebooks -> CodingTrace, one for each tapped layer.

`LearnedCoder` is recipe `v0_1_1`: a learned projection and a codebook trained by gradient.
`FittedCoder` is recipe `bits`: class and background codes fitted from streamed moments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.core import (
    BatchShape,
    Codebook,
    CodingTrace,
    GaussianCode,
    LabelCode,
    Reducer,
    SoftAssignment,
)
from nervecode.core.batch import UNKNOWN
from nervecode.core.label import LabelDistribution
from nervecode.core.price import Price, price
from nervecode.errors import InputError
from nervecode.layers.taps import activation_of


class Coder(nn.Module, ABC):
    """Codes one layer's activations, in float32 at least, outside any autocast."""

    def __init__(self, reducer: Reducer) -> None:
        super().__init__()
        self.reducer = reducer

    @property
    def teaches_the_model(self) -> bool:
        """Whether a loss of its traces is meant to reach the model."""
        return False

    def activation(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """What is coded, out of what the watched module was given and returned.

        Raises:
            InputError: the output has no such tensor.
        """
        activation = activation_of(output, self.reducer.pick)
        if activation is None:
            raise InputError("its output has no tensor")
        if isinstance(activation, Tensor) and activation.is_quantized:
            return activation.dequantize()
        return activation

    def reduce(self, activation: Any, batch: BatchShape = UNKNOWN) -> Tensor:
        """(B, D) vectors, and their gradients, that no later in-place operation changes."""
        reducer = self.reducer
        if _is_saved(activation, reducer):
            return reducer(activation.clone(), batch)  # type: ignore[no-any-return]
        vector: Tensor = reducer(activation, batch)
        return vector.clone() if vector is activation else vector

    def forward(self, activation: Any, batch: BatchShape = UNKNOWN) -> CodingTrace:
        """Code a batch of activations; `batch` is what is known of their call."""
        with without_autocast(device_type(activation)):
            vector = self.reduce(activation, batch)
            trace = self.code(vector.flatten(0, -2))
        return replace(trace, places=tuple(vector.shape[1:-1])) if vector.ndim > 2 else trace

    def project(self, activation: Any, batch: BatchShape = UNKNOWN) -> CodingTrace | Reduced:
        """Code a batch of activations, or as much of it as needs the activations themselves.

        `price_together` does the rest, for all layers of a forward at once.
        """
        return self(activation, batch)  # type: ignore[no-any-return]

    @abstractmethod
    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Coder:
        """Follow the model to its device, but not below float32: a code needs the precision."""
        coder: Coder = super()._apply(  # type: ignore[no-untyped-call]
            lambda t: _float32_at_least(t, fn(t)), recurse
        )
        return coder

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `coder_from_spec` needs to build an equal coder, as plain JSON values."""


def _is_saved(activation: Any, reducer: Reducer) -> bool:
    """Whether backward would need the activation itself: only a mean over places does not."""
    if not isinstance(activation, Tensor) or not activation.requires_grad:
        return False
    averaged = activation.ndim > 2 and reducer.name in ("mean", "tokens")
    return torch.is_grad_enabled() and not torch.compiler.is_compiling() and not averaged


def device_type(activation: Tensor | PackedSequence) -> str:
    """`cpu`, `cuda`, ..."""
    return (activation if isinstance(activation, Tensor) else activation.data).device.type


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Within it, nothing is cast; where nothing would be, it costs nothing."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _float32_at_least(before: Tensor, after: Tensor) -> Tensor:
    halved = after.dtype in (torch.float16, torch.bfloat16)
    return before.to(after.device) if halved else after


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
        if coding_dim < 1:
            raise InputError(f"coding_dim: found {coding_dim}, allowed: at least 1")
        self.codebook = Codebook(num_codes, coding_dim)
        self.settled = in_features is not None
        with nullcontext() if self.settled else torch.random.fork_rng([]):
            self.projection = nn.Linear(in_features or guess or 1, coding_dim, bias=False)
        self._drawn = self.projection.weight._version
        self.assignment = assignment or SoftAssignment()
        self.detach = detach

    @property
    def teaches_the_model(self) -> bool:
        """Unless the codes are learned by themselves."""
        return not self.detach

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors; gradients reach the projection and the centres.

        Raises:
            InputError: a vector of another width than the projection takes.
        """
        vector = vector.to(self.codebook.centres.dtype)
        if self.detach:
            vector = vector.detach()
        if not self.settled:
            self._settle(vector)
        if vector.shape[1] != self.projection.in_features:
            raise InputError(
                f"vector: found width {vector.shape[1]}, allowed: {self.projection.in_features}"
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
        if width == self.projection.in_features and weight._version != self._drawn:
            return
        self.projection.in_features = width
        devices = [vector.device] if vector.is_cuda else []
        with torch.inference_mode(False), torch.random.fork_rng(devices):
            weight.data = weight.new_empty(self.codebook.dim, width)
            self.projection.reset_parameters()

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


class FittedCoder(Coder):
    """Recipe `bits`: the price of a vector under class codes, and against a background code.

    Args:
        codes: the fitted codes, see `nervecode.core.GaussianCode`.
        reducer: how an activation becomes a vector; it must be the one that the moments saw.
    """

    def __init__(self, codes: GaussianCode, *, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.codes = codes

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors, in bits."""
        return _trace(vector, self.codes(vector))

    def project(self, activation: Any, batch: BatchShape = UNKNOWN) -> Reduced:
        """Reduce a batch of activations; `price_together` prices it."""
        with without_autocast(device_type(activation)):
            vector = self.reduce(activation, batch)
        places = tuple(vector.shape[1:-1])
        return Reduced(
            self.codes, self.codes.fitting(vector.flatten(0, -2) if places else vector), places
        )

    def spec(self) -> dict[str, Any]:
        """The sizes of the codes and the reducer, as plain JSON values."""
        codes = self.codes
        sizes = {"num_codes": codes.num_codes, "num_classes": codes.num_classes}
        sizes |= {"dim": len(codes.mean), "rank": codes.rank}
        return {"kind": "fitted", **sizes, "reducer": self.reducer.spec()}


class Reduced(NamedTuple):
    """A layer's vectors, (B, D), not yet priced."""

    codes: GaussianCode
    vector: Tensor
    places: tuple[int, ...] = ()


def price_together(layers: Mapping[str, CodingTrace | Reduced]) -> dict[str, CodingTrace]:
    """Layer -> trace, in the same order; layers of equal shape are priced together."""
    alike: dict[tuple[Any, ...], dict[str, Reduced]] = {}
    for name, layer in layers.items():
        if isinstance(layer, Reduced):
            rows, device = layer.vector.shape[0], layer.vector.device
            # While a graph is traced the number of inputs is a symbol, and the same for all.
            sizes = layer.codes.num_codes, layer.codes.num_classes, device
            alike.setdefault((rows if isinstance(rows, int) else None, *sizes), {})[name] = layer
    prices: dict[str, Price] = {}
    for (*_, device), group in alike.items():
        with without_autocast(device.type):
            codes = [layer.codes for layer in group.values()]
            projections = [layer.codes.project(layer.vector) for layer in group.values()]
            prices |= zip(group, price(codes, projections), strict=True)
    return {
        name: _trace(layer.vector, prices[name], layer.places)
        if isinstance(layer, Reduced)
        else layer
        for name, layer in layers.items()
    }


def _trace(vector: Tensor, price: Price, places: tuple[int, ...] = ()) -> CodingTrace:
    return CodingTrace(price.bits, price.code, vector, price.regret, places)


class LabelCoder(Coder):
    """The head as one more layer: its surprise is the regret of the label, in bits.

    Args:
        codes: the fitted label code, see `nervecode.core.LabelCode`.
    """

    def __init__(self, codes: LabelCode) -> None:
        super().__init__(Reducer("mean"))
        self.codes = codes

    def activation(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """(features, logits): what the head was given, and what it returned."""
        given = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
        returned = isinstance(output, Tensor) and output.ndim == 2
        if not given or given[0].ndim != 2 or not returned:
            raise InputError("a label code needs a head that takes (B, D) and returns (B, classes)")
        return given[0], output

    def forward(self, activation: Any, batch: BatchShape = UNKNOWN) -> CodingTrace:
        """Code a batch of (features, logits)."""
        features, logits = activation
        with without_autocast(features.device.type):
            dtype = self.codes.factors.dtype
            vector, logits = self.reduce(features, batch).to(dtype), logits.to(dtype)
            return CodingTrace(self.codes(vector, logits), LabelDistribution(logits), vector)

    def code(self, vector: Tensor) -> CodingTrace:
        """Not for vectors alone: a label code reads logits too."""
        raise InputError("a label code reads (features, logits), not a vector")

    def spec(self) -> dict[str, Any]:
        """The sizes of the code, as plain JSON values."""
        dim, rank = self.codes.factors.shape
        return {"kind": "label", "dim": dim, "rank": rank, "reducer": self.reducer.spec()}


class UnseenCoder(Coder):
    """A layer that did not run while codes were fitted: it has none, and says so if it runs."""

    def code(self, vector: Tensor) -> CodingTrace:
        """There is nothing to code with."""
        raise InputError("it did not run while the codes were fitted")

    def spec(self) -> dict[str, Any]:
        """The reducer, as plain JSON values."""
        return {"kind": "unseen", "reducer": self.reducer.spec()}


def coder_from_spec(spec: dict[str, Any]) -> Coder:
    """An untrained coder of the shape that `Coder.spec` described.

    Raises:
        InputError: a spec of an unknown kind.
    """
    with torch.inference_mode(False):  # whose tensors could not be used outside of it
        return _coder(spec, Reducer(**_present(spec["reducer"])))


def _coder(spec: dict[str, Any], reducer: Reducer) -> Coder:
    if spec["kind"] == "fitted":
        sizes = spec["num_codes"], spec["dim"], spec["rank"]
        codes = GaussianCode(*sizes, num_classes=spec.get("num_classes"))
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
