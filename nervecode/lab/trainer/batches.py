"""Batches: how many inputs each step of an epoch takes, and whether the network takes them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nervecode.errors import InputError, brief
from nervecode.lab.models.adopted import Adopted, trial_run
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import TrainConfig
from nervecode.lab.trainer.frozen import is_frozen


def batch_sizes(model: Classifier, config: TrainConfig, inputs: Tensor) -> list[int]:
    """The sizes of the batches of an epoch over (N, *shape) inputs.

    A last batch of one joins the batch before it, where batch normalisation would be left with one
    value a channel.

    Raises:
        InputError: all batches are of one input, and the model cannot take them.
    """
    size = config.batch_size
    sizes = [len(part) for part in inputs.split(size)]
    if sizes[-1] > 1 or is_frozen(config, config.epochs) or not _needs_two(model, inputs[:1]):
        return sizes
    if sizes[0] == 1:
        raise InputError(
            f"train.batch_size: found {size} for {len(inputs):,} inputs, allowed: batches of at "
            "least 2, since batch normalisation has one value a channel in a batch of one"
        )
    return [*sizes[:-2], size + 1]


def check_training(model: Classifier, config: TrainConfig, inputs: Tensor) -> None:
    """Refuse a network from elsewhere that does not give its logits in training mode.

    Raises:
        InputError: it fails, or returns something else; or as `batch_sizes`.
    """
    sizes = batch_sizes(model, config, inputs)
    if is_frozen(config, config.epochs) or not isinstance(model, Adopted):
        return
    returned: list[Any] = []
    keep = model.net.register_forward_hook(lambda net, args, output: returned.append(output))
    try:
        trial_run(model.train(), inputs[: min(sizes[0], 2)])
    except Exception as error:
        other = [type(output).__name__ for output in returned if not isinstance(output, Tensor)]
        reason = (
            f"gives {other[0]}, as with auxiliary logits" if other else f"fails: {brief(error)}"
        )
        raise InputError(
            f"model.name: in training mode the network {reason}; allowed: the logits alone, as in "
            "evaluation mode, or train.freeze: backbone"
        ) from error
    finally:
        keep.remove()


def _needs_two(model: Classifier, x: Tensor) -> bool:
    """Whether a batch normalisation in training would get one value a channel from (1, *shape)."""
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    values: list[int] = []

    def count(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        values.append(args[0].numel() // args[0].shape[1])

    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.register_forward_pre_hook(count).remove)
        if norms:
            trial_run(model.eval(), x)
    return 1 in values
