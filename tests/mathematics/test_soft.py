"""Learned codes (recipe `v0_1_1`) and the codebook as a mixture, against the page in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.core import Codebook, CosineTemperature, FixedTemperature, SoftAssignment
from nervecode.training import CodingLoss
from tests.mathematics.oracle import mixture_bits, soft

K, D, B = 5, 3, 12


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors, centres, log priors and a factor."""
    random = torch.Generator().manual_seed(seed)
    z, centres = (torch.randn(n, D, generator=random, dtype=torch.float64) for n in (B, K))
    priors = torch.rand(K, generator=random, dtype=torch.float64).log()
    return 2 * z, centres, priors.log_softmax(0), torch.tensor(
        [[1.0, 0.3, 0.0], [0.0, 0.5, 0.2], [0.4, 0.0, 2.0]], dtype=torch.float64
    )  # fmt: skip


@pytest.mark.parametrize("t", [0.4, 1.0, 2.0])
def test_length_entropy_and_surprise(t: float) -> None:
    z, centres, log_priors, factor = drawn()
    assignment = SoftAssignment(t, beta_length=0.7, beta_entropy=1.3, beta_distance=0.4)
    code = Codebook.from_centres(centres, log_priors=log_priors, factor=factor)(z, assignment)
    for i in range(B):
        expected = soft(z[i].numpy(), centres.numpy(), log_priors.exp().numpy(), factor.numpy(), t)
        assert code.best_length[i].item() == pytest.approx(expected["L"])
        assert code.entropy[i].item() == pytest.approx(expected["H"])
        assert code.best_distance[i].item() == pytest.approx(expected["d2"])
        assert code.best_index[i].item() == expected["best"]
        distance = math.log(1 + expected["d2"])
        surprise = 0.7 * expected["L"] + 1.3 * expected["H"] + 0.4 * distance
        assert assignment.surprise(code)[i].item() == pytest.approx(surprise)


def test_the_mixture_and_its_parts() -> None:
    z, centres, log_priors, factor = drawn(1)
    code = Codebook.from_centres(centres, log_priors=log_priors, factor=factor)(z)
    covariance, priors = np.linalg.inv((factor @ factor.T).numpy()), log_priors.exp().numpy()
    for i in range(B):
        x = z[i].numpy()
        bits = mixture_bits(x, centres.numpy(), priors, covariance)
        assert code.bits[i].item() == pytest.approx(bits)
        alone = [mixture_bits(x, c[None].numpy(), np.ones(1), covariance) for c in centres]
        posterior = [p * 2 ** (bits - one) for p, one in zip(priors, alone, strict=True)]
        np.testing.assert_allclose(code.probs[i], posterior, rtol=1e-8)
        index = sum(-p * math.log2(prior) for p, prior in zip(posterior, priors, strict=True))
        residual = sum(p * one for p, one in zip(posterior, alone, strict=True))
        back = -sum(p * math.log2(p) for p in posterior)
        assert code.index_bits[i].item() == pytest.approx(index)
        assert code.residual_bits[i].item() == pytest.approx(residual)
        assert code.bits_back[i].item() == pytest.approx(back)
        assert index + residual - back == pytest.approx(bits)


@pytest.mark.parametrize("given", [True, False])
def test_without_priors_and_metric_they_are_uniform_and_the_identity(given: bool) -> None:
    z, centres, _, _ = drawn(2)
    book = Codebook.from_centres(centres) if given else Codebook(K, D).double()
    code = book(z)
    for i in range(B):
        own = book.centres.detach().numpy()
        bits = mixture_bits(z[i].numpy(), own, np.full(K, 1 / K), np.eye(D))
        assert code.bits[i].item() == pytest.approx(bits, rel=1e-12 if given else 1e-6)


def test_a_learned_layer_has_the_defaults_of_the_page() -> None:
    """Mean over places, a projection, T = 1, uniform priors, and weights 1, 1 and 0."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    wrapped = nervecode.wrap(net, ["0"])
    x = torch.randn(B, 1, 6, 6)
    with torch.no_grad():
        _, traces = wrapped.forward_with_trace(x)
        maps = net[0](x).double().numpy()
    state = {name: tensor.double().numpy() for name, tensor in wrapped.state_dict().items()}
    projection = next(value for name, value in state.items() if name.endswith("projection.weight"))
    centres = next(value for name, value in state.items() if name.endswith("codebook.centres"))
    dim, number = len(projection), len(centres)
    for i in range(B):
        z = projection @ maps[i].reshape(4, -1).mean(1)
        code = soft(z, centres, np.full(number, 1 / number), np.eye(dim), 1.0)
        assert traces["0"].surprise[i].item() == pytest.approx(code["L"] + code["H"], abs=1e-4)
    length, best = traces["0"].code.best_length, traces["0"].code.best_distance
    loss = CodingLoss(0.7, 0.3)(traces).item()
    expected = np.mean(0.7 * length.numpy() + 0.3 * np.log(1 + best.numpy()))
    assert loss == pytest.approx(expected, rel=1e-5)
    wrapped(x)
    assert wrapped.coding_loss().item() == pytest.approx(traces["0"].surprise.mean().item())


def test_schedules() -> None:
    assert FixedTemperature()(3) == 1
    schedule = CosineTemperature(3.0, 0.25, 8)
    for t in range(12):
        n = min(t, 8)
        expected = 0.25 + (3.0 - 0.25) * (1 + math.cos(math.pi * n / 8)) / 2
        assert schedule(t) == pytest.approx(expected)
