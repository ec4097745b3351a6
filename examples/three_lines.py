"""Three lines around a model that you have: wrap, fit, calibrate; then every input has a surprise.

A small network learns the handwritten digits 0 to 7. It never saw an 8 or a 9, nor noise, and its
class scores have no word for that; the code length of its activations has.
Run: python examples/three_lines.py
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nervecode

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "examples/three_lines.py needs scikit-learn; pip install -e '.[lab]' in the checkout"
    ) from None


def main() -> None:
    torch.manual_seed(0)
    train, calibration, test, strange = load_data()
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 8)
    )
    learn(model, train)

    wrapped = nervecode.wrap(model.eval())
    wrapped.fit(DataLoader(train, 128))
    wrapped.calibrate(DataLoader(calibration, 128))

    print(f"{'input':<24}{'n':>5}{'median percentile':>20}{'flagged at p <= 0.05':>24}")
    for name, x in {"digits 0 to 7, unseen": test.tensors[0], **strange}.items():
        with torch.no_grad():
            _, surprise = wrapped.score(x)
        flagged = surprise.flag(0.05).double().mean()
        print(f"{name:<24}{len(x):>5}{surprise.percentile.median():>20.1%}{flagged:>23.1%}")


def load_data() -> tuple[TensorDataset, TensorDataset, TensorDataset, dict[str, Tensor]]:
    """Digits 0 to 7 for training, calibration and test; what the model will not have seen."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    known = torch.from_numpy(np.random.default_rng(0).permutation(np.flatnonzero(labels < 8)))
    train, calibration, test = (
        TensorDataset(x[rows], y[rows]) for rows in known.tensor_split([900, 1170])
    )
    strange = {
        "digits 8 and 9": x[y >= 8],
        "digits 0 to 7, mirrored": test.tensors[0].view(-1, 8, 8).flip(2).flatten(1),
        "noise": torch.rand(200, 64),
    }
    return train, calibration, test, strange


def learn(model: nn.Module, data: TensorDataset, epochs: int = 30) -> None:
    """Ordinary training: Nervecode has no part in it."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for x, y in DataLoader(data, 64, shuffle=True):
            loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


if __name__ == "__main__":
    main()
