"""Detectors that run the network again: for gradients, or for maps too large to keep.

Either takes two to three times a pass over each split, and Gram as much over ID train.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from nervecode.lab.data.samples import EVAL_BATCH, as_float
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import library
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features, block_modules

GRAM_POWERS = range(1, 11)


def _over_inputs(predict: Callable[[Tensor], Tensor], device: torch.device) -> Score:
    """A scorer of inputs, batch by batch on the network's device."""
    return lambda split: torch.cat(
        [
            predict(as_float(part.to(device))).detach().cpu()
            for part in split.inputs.split(EVAL_BATCH)
        ]
    )


def odin(train: Features, model: Classifier, *, temperature: float, step: float) -> Score:
    """Softmax at a high temperature, after a small step of the input towards its class, negated.

    Liang, Li and Srikant 2018. Temperature 1000, step 0.0014 in units of the raw input, pixels in
    [0, 1]; two forward passes and a backward one.
    """
    detector = library().ODIN(model, eps=step, temperature=temperature)
    return _over_inputs(detector.predict, model.head.weight.device)


def gram(train: Features, model: Classifier) -> Score:
    """How far the channels' correlations in every block leave the range of the predicted class.

    Sastry and Oore 2020, on the blocks' outputs. Powers 1 to 10, a tenth of ID train held out for
    the expected deviation. Kept for a whole split, its statistics take ten numbers per channel.
    """
    device = model.head.weight.device
    run = _BlockByBlock(model)
    classes = model.head.out_features
    detector = library().Gram(run.logits, run.blocks, classes, GRAM_POWERS).to(device)
    batches = [as_float(part) for part in train.inputs.split(EVAL_BATCH)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # it draws what it holds out
        detector.fit(list(zip(batches, train.labels.split(EVAL_BATCH), strict=True)))
    return _over_inputs(detector.to(device).predict, device)  # its bounds are on the CPU until then


class _BlockByBlock:
    """A network as the chain of layers that Gram applies one after another.

    The first runs it on a batch, and each hands out the output of one block of that run, channels
    first; so blocks need not follow each other directly.
    """

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._modules = block_modules(model)
        self._outputs: list[Tensor] = []
        self._logits = torch.empty(0)
        self.blocks = [self._run, *[self._hand_out(i) for i in range(1, len(self._modules))]]

    def logits(self, last: Tensor) -> Tensor:
        """The logits of the batch."""
        return self._logits

    def _run(self, x: Tensor) -> Tensor:
        self._outputs = []
        with ExitStack() as stack:
            for module in self._modules:
                hook = module.register_forward_hook(lambda _, args, out: self._outputs.append(out))
                stack.enter_context(hook)
            self._logits = self._model(x)
        return self._hand_out(0)(x)

    def _hand_out(self, index: int) -> Callable[[Tensor], Tensor]:
        def layer(previous: Tensor) -> Tensor:
            out = self._outputs[index]
            return out.transpose(1, 2) if out.ndim == 3 else out  # tokens: (B, T, C) -> (B, C, T)

        return layer
