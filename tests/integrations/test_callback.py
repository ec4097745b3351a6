"""What the callbacks of training frameworks refuse before a training, and not after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nervecode.errors import InputError
from nervecode.integrations.callback import CodesAfterTraining

BATCHES = [torch.randn(9, 4)]


@pytest.mark.parametrize(
    ("held_out", "options", "words"),
    [
        (None, {}, "held_out: found NoneType, allowed: an iterable of batches"),
        (3, {}, "held_out: found int, allowed: an iterable of batches"),
        ("a", {}, "held_out: found str, allowed: an iterable of batches"),
        (
            BATCHES[0],
            {},
            r"held_out: found float32 tensor of shape \(9, 4\), allowed: an iter",
        ),
        (BATCHES, {"alpha": 2}, "alpha: found 2, allowed: between 0 and 1"),
        (BATCHES, {"alpha": "a"}, "alpha: found 'a', allowed: between 0 and 1"),
        (BATCHES, {"call": 3}, "SurpriseCallback call: found int, allowed: a function"),
        (BATCHES, {"labels": 3}, "SurpriseCallback labels: found int, allowed: a function"),
        (BATCHES, {"fit_options": 3}, "fit_options: found int, allowed: a mapping"),
        (BATCHES, {"fit_options": {"rnak": 3}}, "unknown 'rnak'; did you mean 'rank'"),
        (BATCHES, {"fit_options": {"call": print}}, "fit_options: unknown 'call'"),
    ],
)
def test_options_are_checked_before_a_training(
    held_out: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        CodesAfterTraining(held_out, **options)


def test_layers_are_checked_before_a_training() -> None:
    codes = CodesAfterTraining(BATCHES, layers="lyer1", fit_options={"rank": 3, "num_classes": 2})
    with pytest.raises(InputError, match=r"layers: .*lyer1"):
        codes.check_layers(nn.Sequential(nn.Linear(4, 3)))
