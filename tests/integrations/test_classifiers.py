"""Classifiers of torchvision and timm, with the three lines of the README."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision

import nervecode

pytestmark = pytest.mark.slow

NAMES = (
    "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121",
    "convnext_tiny", "swin_t", "vit_b_16", "timm:resnet10t", "timm:mobilenetv3_small_050",
    "timm:vit_tiny_patch16_224", "timm:mixer_s32_224",
)  # fmt: skip


def build(name: str) -> Any:
    torch.manual_seed(0)
    kind, _, timm_name = name.partition(":")
    if timm_name:
        timm = pytest.importorskip("timm", reason="the extra `integrations` brings it")
        return timm.create_model(timm_name, pretrained=False, num_classes=10).eval()
    return torchvision.models.get_model(kind, weights=None, num_classes=10).eval()


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_is_watched_as_it_is(name: str) -> None:
    model, generator = build(name), torch.Generator().manual_seed(0)
    side = 224 if any(word in name for word in ("vit", "mixer", "swin")) else 64
    pictures = torch.rand(28, 3, side, side, generator=generator)
    with torch.no_grad():
        plain = model(pictures[24:])
    wrapped = nervecode.wrap(model)
    with pytest.warns(UserWarning, match="8 inputs give no p-value below"):
        wrapped.fit([(pictures[:16], torch.arange(16) % 10)]).calibrate([pictures[16:24]])
    with torch.no_grad():
        logits, surprise = wrapped.score(pictures[24:])
    assert torch.equal(logits, plain)
    assert surprise.valid.all()
    assert surprise.by_layer.shape == (4, len(surprise.layers)) and len(surprise.layers) > 2
    assert surprise.p_value.min() >= 1 / 9
