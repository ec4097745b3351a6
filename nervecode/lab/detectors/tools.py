"""What several detectors need: pytorch-ood, the head, samples, and features in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.lab.data.samples import EVAL_BATCH
from nervecode.lab.detectors.registry import Score
from nervecode.lab.models.classifier import Classifier


def library() -> Any:
    """pytorch-ood's detectors; imported late, since most commands need no baseline."""
    from pytorch_ood import detector

    # It warns where it chooses a device, and where ViM's subspace is as small as it is told to be.
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    return detector


def head_of(model: Classifier) -> nn.Linear:
    """A copy of the head on the CPU, without hooks and gradients; its bias is 0 if it has none."""
    # Without initial values, which would draw random numbers.
    head: nn.Linear = nn.utils.skip_init(nn.Linear, model.head.in_features, model.head.out_features)
    with torch.no_grad():  # hooks, as of spectral_norm, make the weight as it runs
        model.head(torch.zeros_like(model.head.weight[:1]))
    bias = torch.zeros(len(head.bias)) if model.head.bias is None else model.head.bias
    head.load_state_dict({"weight": model.head.weight, "bias": bias})
    return head.requires_grad_(False)


def sample(rows: Tensor, number: int) -> Tensor:
    """As many rows of (N, ...), or all where there are fewer, drawn at random, always the same."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:number]]


def in_batches(score: Callable[[Tensor], Tensor]) -> Score:
    """A scorer of features that forms no larger matrices than those of a batch."""
    return lambda split: torch.cat([score(part) for part in split.features.split(EVAL_BATCH)])
