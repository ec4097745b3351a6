"""Losses in bits against loops over their equations, and what cannot win them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nervecode.core import Codebook, CodingTrace
from nervecode.errors import InputError, NotReadyError
from nervecode.training import BatchPrice, CodePrice, CodeRate, MixturePrice, VectorLoss

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 0, 3, 2])  # 3 is alone of its class
LOSSES: dict[str, Callable[[], VectorLoss]] = {
    "rate": CodeRate,
    "reduction": lambda: CodeRate(reduction=1.0),
    "code_price": CodePrice,
    "batch_price": BatchPrice,
}
every = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


def vectors(width: int = 4, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(len(LABELS), width, generator=random, dtype=torch.float64)


def unit(z: Tensor) -> Any:
    return np.array([row / np.sqrt(row @ row) for row in z.numpy()])


def shares(u: Any, i: int, temperature: float) -> dict[int, float]:
    """Of every other input of the batch."""
    weights = {j: np.exp(u[i] @ u[j] / temperature) for j in range(len(u)) if j != i}
    return {j: weight / sum(weights.values()) for j, weight in weights.items()}


def mates(i: int) -> list[int]:
    return [j for j in range(len(LABELS)) if j != i and LABELS[j] == LABELS[i]]


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_price_of_a_class(temperature: float) -> None:
    u = unit(vectors())
    prices = [
        -np.log2(sum(shares(u, i, temperature)[j] for j in mates(i))) if mates(i) else 0.0
        for i in range(len(u))
    ]
    found = CodePrice(temperature)({"a": vectors()}, LABELS).item()
    assert found == pytest.approx(np.mean(prices), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_price_of_the_batch(temperature: float) -> None:
    u = unit(vectors(seed=1))
    prices = [
        np.mean([-np.log2(shares(u, i, temperature)[j]) for j in mates(i)]) if mates(i) else 0.0
        for i in range(len(u))
    ]
    found = BatchPrice(temperature)({"a": vectors(seed=1)}, LABELS).item()
    assert found == pytest.approx(np.mean(prices), rel=1e-9)


def rate(u: Any, distortion: float) -> float:
    n, d = u.shape
    matrix = np.eye(d) + d / (n * distortion**2) * sum(np.outer(row, row) for row in u)
    return float(0.5 * np.linalg.slogdet(matrix).logabsdet / np.log(2))


@pytest.mark.parametrize("width", [4, 20])
@pytest.mark.parametrize(("distortion", "reduction"), [(0.5, 0.0), (0.3, 0.0), (0.5, 0.7)])
def test_the_rate_and_its_reduction(width: int, distortion: float, reduction: float) -> None:
    z = vectors(width, seed=2)
    u, m = unit(z), min(len(z), width)
    most = m / 2 * np.log2(1 + width / (m * distortion**2))
    classes = [u[LABELS.numpy() == k] for k in range(4)]
    inside = sum(len(c) / len(u) * rate(c, distortion) for c in classes)
    expected = (most - rate(u, distortion) + reduction * inside) / m
    found = CodeRate(distortion, reduction=reduction)({"a": z}, LABELS).item()
    assert found == pytest.approx(expected, rel=1e-9)


def test_vectors_that_fill_the_space_lack_nothing() -> None:
    assert CodeRate()({"a": torch.eye(9)}, LABELS).item() == pytest.approx(0, abs=1e-5)
    most, one = 0.5 * np.log2(1 + 4), 0.5 * np.log2(1 + 20) / 5
    assert CodeRate()({"a": torch.ones(9, 5)}, LABELS).item() == pytest.approx(most - one)


@every
def test_length_gains_nothing(make: Callable[[], VectorLoss]) -> None:
    z, scales = vectors(), torch.logspace(-3, 3, len(LABELS), dtype=torch.float64)
    loss = make()
    expected = loss({"a": z}, LABELS).item()
    assert loss({"a": 1e-4 * z}, LABELS).item() == pytest.approx(expected, rel=1e-6)
    assert loss({"a": scales.unsqueeze(1) * z}, LABELS).item() == pytest.approx(expected, rel=1e-6)
    z.requires_grad_()
    loss({"a": z}, LABELS).backward()
    assert z.grad is not None
    # The gradient has nothing along the vector: no step makes it shorter for its own sake.
    assert float((z.grad * z.detach()).sum(1).abs().max()) < 1e-9


@every
@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [5, 5, 5]])
def test_any_batch_has_a_finite_loss_and_gradient(
    make: Callable[[], VectorLoss], labels: list[int]
) -> None:
    for z in (torch.zeros(len(labels), 3), torch.ones(len(labels), 3), torch.eye(5)[: len(labels)]):
        z = z.clone().requires_grad_()
        loss = make()({"a": z}, torch.tensor(labels))
        loss.backward()
        assert z.grad is not None
        assert loss.isfinite()
        assert z.grad.isfinite().all()


@every
@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-8, 1e-6])
def test_short_vectors_have_a_bounded_gradient(
    make: Callable[[], VectorLoss], length: float
) -> None:
    z = vectors().float()
    z[2] *= length / z[2].norm()
    z.requires_grad_()
    make()({"a": z}, LABELS).backward()
    assert z.grad is not None
    assert float(z.grad.abs().max()) < 2e6  # 2e5 times what the unit vector's is
    assert bool(z.grad[2].any()) == (length > 1e-20)  # 0 has no direction


@every
@pytest.mark.parametrize("length", [1e-4, 1e20, 3e38])
def test_long_vectors_do_not_overflow(make: Callable[[], VectorLoss], length: float) -> None:
    z, loss = vectors().float(), make()
    z = z / z.abs().max()
    expected = loss({"a": z}, LABELS).item()
    assert loss({"a": z * length}, LABELS).item() == pytest.approx(expected, rel=1e-4)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_widened_also_under_autocast(
    make: Callable[[], VectorLoss], dtype: torch.dtype
) -> None:
    z, loss = vectors().to(dtype).requires_grad_(), make()
    expected = loss({"a": z.detach().float()}, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss({"a": z}, LABELS)
    found.backward()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert z.grad is not None
    assert z.grad.isfinite().all()


@every
def test_no_inputs_cost_nothing_and_keep_the_graph(make: Callable[[], VectorLoss]) -> None:
    z = torch.zeros(0, 3, requires_grad=True)
    loss = make()({"a": z}, LABELS[:0])
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None


@every
def test_layers_are_averaged_and_may_be_traces(make: Callable[[], VectorLoss]) -> None:
    a, b = vectors(4, seed=3).float(), vectors(7, seed=4).float()
    loss, book = make(), Codebook(2, 7)
    code = book(b)
    both = loss({"a": a, "b": CodingTrace(code.bits, code, b)}, LABELS)
    each = [loss({"x": z}, LABELS).item() for z in (a, b)]
    assert both.item() == pytest.approx(np.mean(each), rel=1e-6)


def test_classes_that_are_apart_are_cheap() -> None:
    z = torch.eye(4)[LABELS]
    for loss in (CodePrice(), BatchPrice()):
        assert loss({"a": z}, LABELS) < loss({"a": vectors().float()}, LABELS)
    # Two clouds of one class are cheap for the class, and dear for the batch.
    clouds, labels = torch.eye(4).repeat_interleave(3, 0), torch.arange(2).repeat_interleave(6)
    assert CodePrice()({"a": clouds}, labels) < 0.01
    assert BatchPrice()({"a": clouds}, labels) > 5


def test_errors() -> None:
    with pytest.raises(NotReadyError, match="CodePrice: no layers; run a forward with coding"):
        CodePrice()({}, LABELS)
    with pytest.raises(InputError, match=r"CodeRate: layer 'a': found vectors \(9, 4, 1\) and lab"):
        CodeRate()({"a": vectors().unsqueeze(2)}, LABELS)
    with pytest.raises(InputError, match=r"labels \(8,\), allowed: \(B, D\) and \(B,\)"):
        BatchPrice()({"a": vectors()}, LABELS[:8])
    with pytest.raises(InputError, match="BatchPrice temperature: found 0, allowed: more than 0"):
        BatchPrice(0)
    with pytest.raises(InputError, match="CodeRate distortion: found 0, allowed: more than 0"):
        CodeRate(0)
    with pytest.raises(InputError, match="CodeRate reduction: found -1, allowed: 0 or more"):
        CodeRate(reduction=-1)
    with pytest.raises(InputError, match=r"layer 'a': found vectors \(9, 0\)"):
        CodePrice()({"a": vectors()[:, :0]}, LABELS)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_refused(value: float) -> None:
    for price in (CodePrice, BatchPrice):
        words = f"{price.__name__} temperature: found {value}, allowed: more than 0, finite"
        with pytest.raises(InputError, match=words):
            price(value)
    with pytest.raises(InputError, match=f"distortion: found {value}, allowed: more than 0, fin"):
        CodeRate(value)
    with pytest.raises(InputError, match=f"reduction: found {value}, allowed: 0 or more, finite"):
        CodeRate(reduction=value)
    with pytest.raises(InputError, match=f"least: found {value}, allowed: more than 0, below"):
        MixturePrice(value)


# The price of a mixture


def mixed(logits: Any, labels: Any, least: float) -> float:
    """The regret of each pair of neighbours, the last with the first, one at a time."""
    total, n = 0.0, len(labels)
    for i in range(n):
        j, share = (i + 1) % n, least + (1 - 2 * least) * (i + 0.5) / n
        if labels[i] != labels[j]:
            both = share * logits[i] + (1 - share) * logits[j]
            p = np.exp(both) / np.exp(both).sum()
            entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
            total -= share * np.log2(p[labels[i]]) + (1 - share) * np.log2(p[labels[j]]) + entropy
    return total / n


@pytest.mark.parametrize("least", [0.3, 0.1])
def test_the_price_of_a_mixture(least: float) -> None:
    logits = 3 * vectors(seed=5)
    found = MixturePrice(least)(logits, LABELS).item()
    assert found == pytest.approx(mixed(logits.numpy(), LABELS.numpy(), least), rel=1e-9)


def test_the_logits_of_a_mixture_are_those_of_mixed_features() -> None:
    head, f = torch.nn.Linear(6, 4).double(), vectors(6, seed=6)
    logits = head(f).detach()
    between = head(0.3 * f[0] + 0.7 * f[1])
    torch.testing.assert_close(between, 0.3 * logits[0] + 0.7 * logits[1])


def test_a_mixture_costs_least_where_it_thinks_of_its_two_classes() -> None:
    labels, loss = torch.arange(5).repeat(6), MixturePrice()
    apart = torch.eye(5)[labels]
    prices = [loss(scale * apart, labels).item() for scale in (0, 1, 3, 6, 12, 40)]
    assert min(prices) >= 0
    assert prices.index(min(prices)) in (2, 3)  # neither nothing nor all that can be
    assert prices[3] < prices[4] < prices[5]  # longer logits than the best are paid for
    assert prices[0] > prices[1] > prices[2]  # and so are shorter ones
    shares = 0.3 + 0.4 * np.arange(0.5, 30) / 30
    entropy = -shares * np.log2(shares) - (1 - shares) * np.log2(1 - shares)
    assert prices[0] == pytest.approx(np.log2(5) - np.mean(entropy), rel=1e-5)
    # A third class between the two is what it is to pay for.
    third = apart + 2 * torch.eye(5)[(labels + 2) % 5]
    assert loss(3 * third, labels) > loss(3 * apart, labels) + 0.5


def test_nothing_to_mix_costs_nothing() -> None:
    for labels in ([0], [1, 1, 1]):
        logits = torch.randn(len(labels), 3, requires_grad=True)
        loss = MixturePrice()(logits, torch.tensor(labels))
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mixture_of_half_logits_is_widened_also_under_autocast(dtype: torch.dtype) -> None:
    logits, loss = vectors(seed=5).to(dtype), MixturePrice()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(logits, LABELS)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(logits.float(), LABELS))


def test_no_logits_to_mix_cost_nothing_and_keep_the_graph() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = MixturePrice()(logits, LABELS[:0])
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_errors_of_a_mixture() -> None:
    for label in (-1, 4):
        labels = LABELS.clone()
        labels[5] = label
        with pytest.raises(InputError, match=f"MixturePrice: found label {label}, allowed: 0 to 3"):
            MixturePrice()(vectors(), labels)
    with pytest.raises(InputError, match=r"MixturePrice: found logits \(9, 4\) and labels \(8,\)"):
        MixturePrice()(vectors(), LABELS[:8])
    with pytest.raises(InputError, match=r"least: found 0\.5, allowed: more than 0, below 0\.5"):
        MixturePrice(0.5)
