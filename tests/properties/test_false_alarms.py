"""False alarms are what was asked for, with padding and batch size other than at calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import nervecode

ALPHA, FITTED, CALIBRATED, TESTED = 0.05, 400, 600, 600
WORDS, LONGEST, WIDTH = 50, 12, 16


class Transformer(nn.Module):
    """Classifies words, some of which are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, words: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        x = self.encoder(self.words(words), src_key_padding_mask=src_key_padding_mask)
        real = (~src_key_padding_mask).unsqueeze(2)
        return self.head((x * real).sum(1) / real.sum(1))


class Recurrent(nn.Module):
    """Classifies words by a sequence-first LSTM over packed sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, words: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        lengths = (~src_key_padding_mask).sum(1).cpu()
        steps = self.words(words).transpose(0, 1)
        packed = nn.utils.rnn.pack_padded_sequence(steps, lengths, enforce_sorted=False)
        return self.head(self.lstm(packed)[1][0][-1])


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=3,
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def texts(number: int, size: int, padded_to: int) -> Iterator[dict[str, Tensor]]:
    """Texts of 2 to LONGEST words; `padded_to` 0 pads each batch to its longest."""
    for start in range(0, number, size):
        lengths = torch.randint(2, LONGEST + 1, (min(size, number - start),))
        longest = padded_to or int(lengths.max())
        padding = torch.arange(longest) >= lengths.unsqueeze(1)
        words = torch.randint(1, WORDS, padding.shape).masked_fill(padding, 0)
        yield {"words": words, "src_key_padding_mask": padding}


def images(number: int, size: int, padded_to: int) -> Iterator[Tensor]:
    yield from torch.randn(number, 3, 16, 16).split(size)


Batches = Callable[[int, int, int], Iterator[Any]]
CASES: dict[str, tuple[Callable[[], nn.Module], Batches, Any]] = {
    "transformer": (Transformer, texts, ["encoder.layers.*", "head"]),
    "lstm": (Recurrent, texts, ["lstm", "head"]),
    "vit": (vit, images, "all_blocks"),
    "cnn": (cnn, images, ["0", "2", "4", "7"]),
}


def labelled(batches: Iterator[Any]) -> list[Any]:
    found = []
    for batch in batches:
        size = len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
        labels = torch.arange(size) % 3
        found.append({**batch, "labels": labels} if isinstance(batch, dict) else (batch, labels))
    return found


@pytest.mark.parametrize("name", CASES)
def test_false_alarms_at_five_percent(name: str) -> None:
    build, batches, layers = CASES[name]
    torch.manual_seed(1)
    wrapped = nervecode.wrap(build().eval(), layers)
    wrapped.fit(labelled(batches(FITTED, 50, 0)), num_classes=3)
    wrapped.calibrate(list(batches(CALIBRATED, 40, 0)))
    p_values = []
    with torch.no_grad():
        for batch in batches(TESTED, 7, LONGEST + 8):
            wrapped(**batch) if isinstance(batch, dict) else wrapped(batch)
            p_values.append(wrapped.surprise().p_value)
    alarms = float((torch.cat(p_values) <= ALPHA).double().mean())
    spread = math.sqrt(ALPHA * (1 - ALPHA) * (1 / CALIBRATED + 1 / TESTED))
    assert abs(alarms - ALPHA) <= 3 * spread
    assert wrapped.surprise().p_value.shape == (TESTED % 7,)
