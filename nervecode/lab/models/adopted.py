"""Adopted: a network from elsewhere, whose last linear layer becomes the head."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.models.classifier import Classifier

Self = TypeVar("Self", bound="Adopted")


def trial_run(net: nn.Module, x: Tensor) -> Any:
    """What a network returns, without gradients; buffers and random state stay as they are."""
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        output = net(x)
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
    return output


class Adopted(Classifier):
    """A network of somebody else: (B, *shape) -> (B, classes), by its linear layer `head`."""

    def __init__(self, net: nn.Module, head: str) -> None:
        last = net.get_submodule(head)
        assert isinstance(last, nn.Linear)
        super().__init__(last.in_features, last.out_features)
        self.head = last  # itself: it may have no bias, or a weight made of several parameters
        net.set_submodule(head, nn.Identity())
        self.net, self.theirs = net, head

    def key_elsewhere(self, key: str) -> str:
        """The network's own name of a weight."""
        part, _, name = key.partition(".")
        return {"net": name, "head": f"{self.theirs}.{name}"}.get(part, key)

    def features(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, D)."""
        out: Tensor = self.net(x)
        return out

    @classmethod
    def of(
        cls: type[Self], net: nn.Module, x: Tensor, logits: Tensor, head: str | None = None
    ) -> Self | None:
        """A network with a head of ours; None where it would say something else.

        Args:
            net: the network, in evaluation mode.
            x: some inputs.
            logits: what it says of them.
            head: the name of its linear layer; None takes the last.

        Raises:
            InputError: `head` is no linear layer.
        """
        linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
        if head is not None and head not in linear:
            raise InputError(
                f"model.head: the network has no linear layer {head!r}; "
                f"{did_you_mean(head, linear)}"
            )
        linear = [name for name in linear if name]  # a network that is one layer has no features
        if not linear:
            return None
        adopted = cls(net, head or linear[-1]).eval()
        last = adopted.head
        try:
            with torch.no_grad():  # detectors compute with the weight and the bias
                same = torch.equal(F.linear(adopted.features(x), last.weight, last.bias), logits)
        except (RuntimeError, TypeError, AttributeError):  # as where two heads are averaged
            same = False
        if not same:
            net.set_submodule(adopted.theirs, last)
        return adopted if same else None
