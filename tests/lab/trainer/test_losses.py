"""Task losses against loops over their equations, and what they are told to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.errors import InputError
from nervecode.lab.config.names import unknown_names
from nervecode.lab.config.resolve import resolve
from nervecode.lab.trainer.forward import FEATURES, ForwardPass
from nervecode.lab.trainer.registry import LOSSES, RANGES

B, D, C = 7, 5, 4


def batch(seed: int = 0) -> tuple[nn.Linear, ForwardPass, Tensor]:
    """A head, what was seen of a batch, and its labels."""
    torch.manual_seed(seed)
    head = nn.Linear(D, C).double()
    features = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    return head, ForwardPass(head(features), {FEATURES: features}, {}), torch.randint(C, (B,))


def price(logits: Any, target: Any) -> float:
    """-sum t ln softmax of one input."""
    logits = np.asarray(logits)
    return float(-(target * (logits - np.log(np.exp(logits).sum()))).sum())


def arrays(head: nn.Linear, seen: ForwardPass) -> tuple[Any, ...]:
    tensors = (seen.features, seen.logits, head.weight, head.bias)
    return tuple(tensor.detach().numpy() for tensor in tensors)


@pytest.mark.parametrize(("name", "smoothing"), [("cross_entropy", 0.0), ("label_smoothing", 0.1)])
def test_label_smoothing_is_cross_entropy_with_a_tenth_of_the_label_spread(
    name: str, smoothing: float
) -> None:
    head, seen, labels = batch()
    _, logits, *_ = arrays(head, seen)
    targets = (1 - smoothing) * np.eye(C)[labels] + smoothing / C
    expected = np.mean([price(row, target) for row, target in zip(logits, targets, strict=True)])
    assert LOSSES[name](head)(seen, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}])
def test_logit_norm_prices_logits_of_one_length(options: Any) -> None:
    head, seen, labels = batch(1)
    _, logits, *_ = arrays(head, seen)
    temperature = options.get("temperature", 0.04)
    expected = np.mean([
        price(row / (temperature * np.sqrt(row @ row)), np.eye(C)[y])
        for row, y in zip(logits, labels.numpy(), strict=True)
    ])  # fmt: skip
    assert LOSSES["logit_norm"](head, **options)(seen, labels).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_t2f_norm_prices_features_of_length_ten() -> None:
    head, seen, labels = batch(2)
    features, _, weight, bias = arrays(head, seen)
    expected = np.mean([
        price(weight @ (10 * f / np.sqrt(f @ f)) + bias, np.eye(C)[y])
        for f, y in zip(features, labels.numpy(), strict=True)
    ])  # fmt: skip
    assert LOSSES["t2f_norm"](head)(seen, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5, "weight": 1.5, "temperature": 0.3}])
def test_cider_by_hand_over_two_batches(options: Any) -> None:
    loss = LOSSES["cider"](batch(3)[0], **options)
    momentum, weight = options.get("momentum", 0.95), options.get("weight", 2.0)
    temperature = options.get("temperature", 0.1)
    projection, shift = (tensor.detach().numpy() for tensor in loss.projection.parameters())
    prototypes = np.zeros((C, len(projection)))
    for seed in (3, 4):
        head, seen, labels = batch(seed)
        loss._head = (head,)
        features, *_ = arrays(head, seen)
        projected = [projection @ f + shift for f in features]
        unit = [h / np.sqrt(h @ h) for h in projected]
        for u, c in zip(unit, labels.tolist(), strict=True):
            moved = momentum * prototypes[c] + (1 - momentum) * u
            prototypes[c] = moved / np.sqrt(moved @ moved)
        compact = np.mean([
            price([u @ p / temperature for p in prototypes], np.eye(C)[y])
            for u, y in zip(unit, labels.numpy(), strict=True)
        ])  # fmt: skip
        pairs = np.exp(prototypes @ prototypes.T / temperature)
        dispersion = np.mean([
            np.log(np.mean([pairs[c, k] for k in range(C) if k != c])) for c in range(C)
        ])  # fmt: skip
        found = loss(seen, labels).item()
        assert found == pytest.approx(dispersion + weight * compact, rel=1e-6)
        np.testing.assert_allclose(loss.prototypes, prototypes, rtol=1e-6)
        loss.settle()
        logits = [[p @ h / temperature for p in prototypes] for h in projected]
        np.testing.assert_allclose(head(seen.features).detach(), logits, rtol=1e-6)


def test_a_head_without_bias_has_a_projection_without() -> None:
    head, seen, labels = batch(5)
    head = nn.Linear(D, C, bias=False).double()
    loss = LOSSES["cider"](head)
    loss(seen, labels)
    loss.settle()
    assert loss.projection.bias is None
    expected = loss.prototypes @ loss.projection.weight @ seen.features.T / 0.1
    torch.testing.assert_close(head(seen.features), expected.T)


@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_cider_refuses_a_head_that_it_cannot_write_to(normed: Any) -> None:
    with pytest.raises(InputError, match="found a head whose weight is made of other parameters"):
        LOSSES["cider"](normed(nn.Linear(D, C)))


def test_the_dispersion_goes_through_every_move_of_a_prototype() -> None:
    head, seen, labels = batch(5)
    loss = LOSSES["cider"](head, weight=0.0)
    loss.prototypes = F.normalize(torch.randn_like(loss.prototypes), dim=1)
    rows = list(loss.prototypes)
    loss(seen, labels).backward()
    features = seen.features.detach().requires_grad_()
    for f, c in zip(features, labels.tolist(), strict=True):
        rows[c] = F.normalize(0.95 * rows[c] + 0.05 * F.normalize(loss.projection(f), dim=0), dim=0)
    pairs = (torch.stack(rows) @ torch.stack(rows).T / 0.1).exp()
    others = pairs.masked_fill(torch.eye(C, dtype=torch.bool), 0).sum(1) / (C - 1)
    others.log().mean().backward()
    torch.testing.assert_close(seen.features.grad, features.grad)


@pytest.mark.parametrize("name", ["t2f_norm", "cider"])
def test_features_without_length_have_a_bounded_gradient(name: str) -> None:
    head, seen, labels = batch(7)
    features = seen.features.detach().clone()
    features[3] = 0
    features.requires_grad_()
    loss = LOSSES[name](head)(ForwardPass(head(features), {FEATURES: features}, {}), labels)
    loss.backward()
    assert features.grad is not None
    assert float(features.grad.abs().max()) < 1e3


@pytest.mark.parametrize("name", ["logit_norm", "t2f_norm"])
def test_length_gains_nothing(name: str) -> None:
    head, seen, labels = batch(6)
    longer = ForwardPass(3 * seen.logits, {FEATURES: 3 * seen.features}, {})
    loss = LOSSES[name](head)
    assert loss(longer, labels).item() == pytest.approx(loss(seen, labels).item(), rel=1e-6)


def test_every_option_has_a_range() -> None:
    assert {option for loss in LOSSES.values() for option in loss.options} <= set(RANGES)
    for loss in LOSSES.values():
        assert all(RANGES[option][0](value) for option, value in loss.options.items())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "train.loss=logitnorm",
            "train.loss: unknown loss 'logitnorm'; did you mean 'logit_norm'?",
        ),
        ("train.loss=3", "train.loss: found 3"),
        ("train.coding_loss=rat", "train.coding_loss: unknown loss in bits 'rat'"),
        ("train.coding_layers=[]", "train.coding_layers: found [], allowed: a selector of layers"),
        ("train.loss_options={temperature: 1.0}", "unknown option of cross_entropy 'temperature'"),
    ],
)
def test_what_is_wrong_of_a_loss_is_told(override: str, words: str) -> None:
    with pytest.raises(InputError) as told:
        resolve(preset="digits", overrides=[override])
    assert words in str(told.value)


def test_layers_are_not_for_a_loss_of_logits() -> None:
    overrides = ["train.coding_loss=mixture_price", "train.coding_layers=all_blocks"]
    with pytest.raises(InputError) as told:
        resolve(preset="digits", overrides=overrides)
    words = "found 'all_blocks', allowed: none, since mixture_price prices logits"
    assert f"train.coding_layers: {words}" in str(told.value)


@pytest.mark.parametrize(
    ("loss", "options", "problem"),
    [
        ("logit_norm", {"temperature": 0}, "found 0, allowed: more than 0, finite"),
        ("logit_norm", {"temperature": "x"}, "found 'x', allowed: as 0.04"),
        ("label_smoothing", {"smoothing": 1.0}, "found 1.0, allowed: 0 or more, below 1"),
        ("cider", {"momentum": -0.1}, "found -0.1, allowed: 0 or more, below 1"),
        ("cider", {"weight": -1}, "found -1, allowed: 0 or more, finite"),
        ("cider", {"weight": float("inf")}, "found inf, allowed: 0 or more, finite"),
        ("t2f_norm", {"temperature": float("nan")}, "found nan, allowed: more than 0, finite"),
    ],
)
def test_options_out_of_range_are_refused(loss: str, options: Any, problem: str) -> None:
    (option,) = options
    found = unknown_names({"train": {"loss": loss, "loss_options": options}})
    assert found == [(f"train.loss_options.{option}", problem)]
