"""A small convolutional network on digits, whose convolutions are coded over the whole map.

Run: python examples/quickstart_cnn.py
"""

import torch
from torch import nn

import nervecode

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "examples/quickstart_cnn.py needs scikit-learn; pip install -e '.[lab]' in the checkout"
    ) from None


def main() -> None:
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(labels)
    train, calibration, test = torch.randperm(len(x)).tensor_split([900, 1400])
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(288, 10),
    )  # fmt: skip
    wrapped = nervecode.wrap(model, layers="all_conv")
    optimiser = torch.optim.Adam(wrapped.parameters(), lr=3e-3)
    for _ in range(8):
        for rows in train[torch.randperm(len(train))].split(64):
            loss = nn.functional.cross_entropy(wrapped(x[rows]), y[rows])
            optimiser.zero_grad()
            (loss + 0.1 * wrapped.coding_loss()).backward()
            optimiser.step()

    wrapped.eval()
    wrapped.fit([(x[rows], y[rows]) for rows in train.split(100)])
    wrapped.calibrate(x[calibration].split(100))
    with torch.no_grad():
        accuracy = (wrapped(x[test]).argmax(1) == y[test]).double().mean()
    print(f"accuracy {accuracy:.1%}")
    noise = torch.rand(500, 1, 8, 8)
    for name, new in {"digits, unseen": x[test], "noise": noise}.items():
        with torch.no_grad():
            _, surprise = wrapped.score(new)
        flagged = surprise.flag(0.05).double().mean()
        print(f"{name:<20}{flagged:>7.1%} flagged at p <= 0.05")


if __name__ == "__main__":
    main()
