"""Every layer's numbers of a fitted network, against the page in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers import WrappedModel
from tests.mathematics.oracle import Array, Codes, label_regret, mean_std, powered

CLASSES = 3


class Net(nn.Module):
    """A convolution, a linear layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(1, 3, 3)
        self.hidden = nn.Linear(48, 9)
        self.head = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.maps(x).relu().flatten(1)
        out: Tensor = self.head(self.hidden(z).relu())
        return out


def data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    y = (torch.arange(n) % 7) // 3  # three, three and one in seven
    x = torch.randn(n, 1, 6, 6, generator=random)
    return x + torch.eye(6)[y].unsqueeze(1).unsqueeze(1) * 2, y


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


def activations(net: Net, x: Tensor) -> dict[str, Array]:
    """Layer -> (N, D) vectors as a fit codes them; and features and logits of the head."""
    with torch.no_grad():
        maps = net.maps(x)
        hidden = net.hidden(maps.relu().flatten(1))
        features = hidden.relu()
        logits = net.head(features)
    raw = {name: tensor.double().numpy() for name, tensor in
           (("maps", maps), ("hidden", hidden), ("head", logits))}  # fmt: skip
    raw["maps"] = np.array([mean_std(one.reshape(3, -1)) for one in raw["maps"]])
    vectors = {name: np.array([powered(z, 0.5) for z in rows]) for name, rows in raw.items()}
    return vectors | {"features": features.double().numpy(), "logits": logits.double().numpy()}


@pytest.mark.parametrize(("n", "rank"), [(210, 128), (210, 2), (56, 128), (21, 128)])
def test_code_length_regret_and_label_are_those_of_the_page(net: Net, n: int, rank: int) -> None:
    """With eight codes for each large class, with three, and with one."""
    (x, y), (new, _) = data(n, 0), data(30, 1)
    new = new * torch.linspace(0.2, 4, 30).view(-1, 1, 1, 1)
    wrapped: WrappedModel = nervecode.wrap(net, ["maps", "hidden", "head"])
    wrapped.fit([(x[:15], y[:15]), (x[15:], y[15:])], rank=rank)
    try:
        with torch.no_grad():
            _, traces = wrapped.forward_with_trace(new)
    finally:
        wrapped.unwrap()
    known, seen = activations(net, x), activations(net, new)
    for name in ("maps", "hidden", "head"):
        codes = Codes(known[name], y.numpy(), rank)
        bits, regret = ([read(z) for z in seen[name]] for read in (codes.bits, codes.regret))
        np.testing.assert_allclose(traces[name].surprise, bits, rtol=1e-4, atol=2e-3)
        np.testing.assert_allclose(traces[name].regret, regret, rtol=1e-4, atol=2e-3)
    label = [
        label_regret(f, row, known["features"], rank)
        for f, row in zip(seen["features"], seen["logits"], strict=True)
    ]
    np.testing.assert_allclose(traces["head:label"].surprise, label, rtol=1e-4, atol=1e-6)
