"""A perceptron trained with task loss plus coding loss, calibrated, and asked about new inputs.

The flow of 0.1.1 from end to end, on points of two classes. `fit` is new: it codes the trained
network again, in bits, which tells strange inputs apart where the learned codes may not.
Run: python examples/quickstart_mlp.py
"""

import torch
from torch import nn

import nervecode


def points(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 2) points around (-2, 0) and (2, 0), and their classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randn(n, 2, generator=generator) + torch.tensor([[-2.0, 0.0], [2.0, 0.0]])[y]
    return x, y


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    wrapped = nervecode.wrap(model, layers="all_linear", coding_dim=8)
    optimiser = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    x, y = points(2000, seed=0)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(wrapped(x[rows]), y[rows])
            optimiser.zero_grad()
            (loss + 0.1 * wrapped.coding_loss()).backward()
            optimiser.step()

    wrapped.eval()
    wrapped.fit(list(zip(x.split(250), y.split(250), strict=True)))
    wrapped.calibrate(points(1000, seed=1)[0].split(250))
    known = points(1000, seed=2)[0]
    for name, new in {"like the training": known, "far away": known + 20}.items():
        with torch.no_grad():
            _, surprise = wrapped.score(new)
        flagged = surprise.flag(0.05).double().mean()
        print(f"{name:<20}{flagged:>7.1%} flagged at p <= 0.05")


if __name__ == "__main__":
    main()
