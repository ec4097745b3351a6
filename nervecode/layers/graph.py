"""Graph: a calibrated wrapped model as a module that can be traced, from the inputs to the flag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import BatchShape, CodingTrace
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.errors import InputError
from nervecode.layers.batch.answer import answer_of, predicted_classes
from nervecode.layers.batch.inputs import device_of
from nervecode.layers.batch.parts import mask_argument
from nervecode.layers.coder import Coder, Reduced
from nervecode.layers.coders.fitted import price_together
from nervecode.layers.names import numbered
from nervecode.layers.reading import Read, Reading, coder_of
from nervecode.layers.watched import Watched, projected

UNMASKED = (
    "every calibration batch came with a mask of real positions, and the example tells of none; "
    "add the model's own, or pass mask=MASK for a graph that takes `mask`"
)
OUTPUTS = ("output", "surprise", "percentile", "p_value", "by_layer", "flag", "smallest_alpha")


class Graph(nn.Module):
    """Inputs and alpha by name -> outputs by name: what is traced.

    Args:
        watched: a calibrated model.
        names: of the model's inputs.
        masked: one of them, `mask`, tells the real positions, and is not the model's.
    """

    subject = "model"  # that is traced, for errors
    smallest: Tensor  # () float64, of another name than the output: ONNX refuses a name twice

    def __init__(self, watched: Watched, names: Iterable[str], *, masked: bool = False) -> None:
        super().__init__()
        self.watched = watched
        self.masked = masked
        self.forward = _named(self.answer, (*names, "alpha"))
        assert watched.calibration is not None
        smallest = torch.tensor(watched.calibration.smallest_alpha, dtype=torch.float64)
        self.register_buffer("smallest", smallest.to(device_of(watched.model)))

    def answer(self, inputs: dict[str, Tensor], alpha: Tensor) -> dict[str, Tensor]:
        """`OUTPUTS` of the model's inputs, by name, and of `alpha`."""
        output, seen = self.run(inputs, projected)
        calibration = self.watched.calibration
        where = self.watched.answer_path, self.watched.answer_width
        if calibration is not None and calibration.calls.masked and not seen.call.masked:
            raise InputError(UNMASKED)
        returned = answer_of(output, *where)
        if not isinstance(returned, Tensor):
            wanted = "a tensor" if where[1] is None else f"logits of {where[1]} classes"
            raise InputError(f"export: the model returns {type(output).__name__}, without {wanted}")
        predicted = predicted_classes(output, *where)
        return {"output": returned, **self.scored(seen.readings, alpha, predicted)}

    def arguments(self, inputs: dict[str, Any], alpha: Any) -> dict[str, Any]:
        """The keyword arguments of `forward`."""
        return {**inputs, "alpha": alpha}

    def batch_dim(self, name: str) -> int:
        """Which dimension of an input is the batch."""
        return 0

    def run(self, inputs: Mapping[str, Tensor], read: Read) -> tuple[Any, Reading]:
        """What the model returns, and what `read` makes of its layers as it runs."""
        given, calibration = dict(inputs), self.watched.calibration
        mask = given.pop("mask") if self.masked else None
        if calibration is not None and calibration.calls.mask_argument:
            mask = mask_argument(self.watched._arguments[""], (), given)
        seen = _Seen(self.watched, read, mask)
        with self.watched._taps.watched(seen):
            output = _called(self.watched.model, given)
        if calibration is not None and (further := calibration.calls.further_run(seen.ran)):
            raise InputError(further)
        return output, seen

    def scored(
        self,
        layers: Mapping[str, CodingTrace | Reduced],
        alpha: Tensor,
        predicted: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The outputs that the layers decide."""
        calibration = self.watched.calibration
        assert calibration is not None
        surprise = calibration.score(price_together(layers), predicted=predicted)
        if surprise.remark and not surprise.valid.all():  # of NaN, `try_out` tells more
            raise InputError(f"export: {surprise.remark}")
        return {
            "surprise": surprise.surprise,
            "percentile": surprise.percentile,
            "p_value": surprise.p_value,
            "by_layer": surprise.by_layer,
            "flag": surprise.p_value <= alpha,
            # Computed, since not every runtime takes a constant of the file for an output.
            "smallest_alpha": torch.where(alpha.isnan(), alpha, self.smallest),
        }


class CodesGraph(Graph):
    """Activations of the layers and alpha by name -> outputs by name, but for the model's own."""

    subject = "codes"

    def __init__(self, watched: Watched) -> None:
        super().__init__(watched, ["activations"])  # layers have names that are no words of Python
        del self.watched  # as a part of this module, it would bring the model into the file
        self.coders = watched.coders
        object.__setattr__(self, "watched", watched)

    def answer(self, inputs: dict[str, Any], alpha: Tensor) -> dict[str, Tensor]:
        """What `alpha` and the layers' activations decide; see `layer_inputs` for their names."""
        layers: dict[str, Any] = {}
        for key, tensor in inputs["activations"].items():
            name, part = key.removesuffix("/0").removesuffix("/1"), key[-2:] in ("/0", "/1")
            layers[name] = (*layers.get(name, ()), tensor) if part else tensor
        projected = {}
        for name, activation in layers.items():
            coder = coder_of(self.coders, name)
            assert coder is not None
            projected[name] = coder.project(activation, UNKNOWN_SHAPE)
        return self.scored(projected, alpha)

    def batch_dim(self, name: str) -> int:
        """1 of a layer that has its steps first."""
        coder = coder_of(self.coders, name)
        return 0 if coder is None else coder.reducer.batch_dim or 0

    def arguments(self, inputs: dict[str, Any], alpha: Any) -> dict[str, Any]:
        """The keyword arguments of `forward`."""
        return {"activations": inputs, "alpha": alpha}


def _named(
    answer: Callable[[dict[str, Any], Tensor], dict[str, Tensor]], names: tuple[str, ...]
) -> Callable[..., dict[str, Tensor]]:
    """`answer` as a function whose arguments have these names, which a tracer asks for."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    signature = Signature([Parameter(name, kind) for name in names])

    def forward(*args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        inputs = dict(signature.bind(*args, **kwargs).arguments)
        return answer(inputs, inputs.pop("alpha"))

    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward


class _Seen(Reading):
    """Reads the calibrated layers, and lets errors through."""

    def __init__(self, watched: Watched, read: Read, mask: Tensor | None) -> None:
        super().__init__(watched, {}, read, mask)
        self.ran: dict[str, None] = {}  # layers that could be read, calibrated or not

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """Read what a layer returns; how many inputs there are, a graph leaves open."""
        batch, name = self.call.of(name)._replace(sizes=()), numbered(name, self.ran)
        coder, calibration = coder_of(self.watched.coders, name), self.watched.calibration
        if coder is None or calibration is None:
            return
        self.ran[name] = None
        if name in calibration.layers:
            activation = coder.activation(inputs, output)
            self.readings[name] = self.read(coder, activation, batch)


def _copied(coder: Coder, activation: Any, batch: BatchShape) -> Any:
    if type(activation) is tuple:  # of a label code
        return tuple(part.clone() for part in activation)
    return activation.clone() if isinstance(activation, Tensor) else activation


def layer_inputs(graph: Graph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a `CodesGraph`: layer -> activation, NAME:label/0 and /1 of a label code."""
    with torch.no_grad():
        layers = graph.run(inputs, _copied)[1].readings
    flat: dict[str, Tensor] = {}
    for name, activation in layers.items():
        if isinstance(activation, tuple):
            flat |= {f"{name}/{number}": part for number, part in enumerate(activation)}
        else:
            flat[name] = activation
    return flat


def _called(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    return model(inputs["input"]) if list(inputs) == ["input"] else model(**inputs)
