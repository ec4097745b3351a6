"""CodingLoss by hand, and what it does to a model."""

import numpy as np
import pytest
import torch
from torch import nn

import nervecode
from nervecode.core import Codebook, CodingTrace, SoftAssignment
from nervecode.errors import InputError, NotReadyError
from nervecode.training import CodingLoss


def trace(k: int, dim: int, batch: int = 6) -> tuple[CodingTrace, Codebook]:
    book, z = Codebook(k, dim), torch.randn(batch, dim)
    code = book(z, SoftAssignment())
    return CodingTrace(SoftAssignment().surprise(code), code, z), book


def test_loss_by_hand() -> None:
    torch.manual_seed(0)
    layers = {name: trace(k, dim) for name, k, dim in (("a", 3, 2), ("b", 5, 4))}
    expected = []
    for one, book in layers.values():
        d2 = ((one.vector[:, None] - book.centres) ** 2).sum(2).detach().double().numpy()
        length = d2.min(1) + np.log(np.exp(-d2).sum(1))  # -log p of the nearest centre
        expected.append((2.0 * length + 0.5 * np.log1p(d2.min(1))).mean())
    found = CodingLoss(2.0, 0.5)({name: one for name, (one, _) in layers.items()})
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_training_with_the_loss_lowers_it_and_the_task() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    wrapped, loss = nervecode.wrap(model, "all_linear", num_codes=4, coding_dim=2), CodingLoss()
    x = torch.randn(128, 2)
    y = (x[:, 0] > 0).long()
    optimiser = torch.optim.Adam(wrapped.parameters(), lr=0.02)
    history = []
    for _ in range(60):
        logits, traces = wrapped.forward_with_trace(x)
        task, coding = nn.functional.cross_entropy(logits, y), loss(traces)
        optimiser.zero_grad()
        (task + 0.1 * coding).backward()
        optimiser.step()
        history.append((task.item(), coding.item()))
    assert history[-1][0] < 0.5 * history[0][0]
    assert history[-1][1] < 0.7 * history[0][1]


def test_errors() -> None:
    with pytest.raises(NotReadyError, match="CodingLoss: no trace; run a forward"):
        CodingLoss()({})
    with pytest.raises(InputError, match="CodingLoss commit_weight: found -1, allowed: 0 or more"):
        CodingLoss(commit_weight=-1)
    with pytest.raises(InputError, match="assign_weight: found nan"):
        CodingLoss(assign_weight=float("nan"))
