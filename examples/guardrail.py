"""A guardrail: a request loop that flags single inputs, logs them, and monitors the stream.

A small network serves the handwritten digits 0 to 7. After 200 requests some 8s and 9s are among
them. Each is judged alone, at a false-alarm rate of 1 %; the monitor judges the stream.
Run: python examples/guardrail.py
"""

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nervecode
from nervecode.monitor import LayerRanks, Monitor

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "examples/guardrail.py needs scikit-learn; pip install -e '.[lab]' in the checkout"
    ) from None

FLAG_ALPHA = 0.01  # of the requests that are as ever, at most so many are held back
RUN_LENGTH = 10_000  # requests, on average, to an alarm of the monitor that is false
CHANGE = 200  # the request at which strangers begin to come, one in four


def main() -> None:
    torch.manual_seed(0)
    train, held_out, new, strangers = load_data()
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 8)
    )
    learn(model, train)
    guarded = nervecode.wrap(model.eval())
    guarded.fit(DataLoader(train, 128)).calibrate(DataLoader(held_out, 128))
    serve(guarded, held_out.tensors[0], requests(new, strangers))


def serve(guarded: nervecode.WrappedModel, held_out: Tensor, incoming: Iterator[Tensor]) -> Monitor:
    """Answer requests; a line of JSON for each that is flagged and for the alarm."""
    with torch.no_grad():
        _, known = guarded.score(held_out)
    ranks = LayerRanks(dict(zip(known.layers, known.by_layer.T.numpy(), strict=True)))
    assert guarded.calibration is not None
    scores = guarded.calibration.scores.numpy()
    monitor = Monitor(scores, run_length=RUN_LENGTH, layers=ranks.names)
    for number, x in enumerate(incoming, 1):
        with torch.no_grad():
            output, surprise = guarded.score(x[None])
        p_value, answer = float(surprise.p_value), int(output.argmax())
        if surprise.flag(FLAG_ALPHA):  # here a service would abstain, or ask a person
            print(json.dumps({"flagged": number, "p_value": round(p_value, 4), "answer": answer}))
        if not surprise.valid:  # flagged above; there is no p-value to bet on
            continue
        layers = ranks.p_values(surprise.by_layer[0].tolist(), number)
        if (alarm := monitor.update(p_value, layers=layers)) is not None:
            print(json.dumps({"alarm": str(alarm)}))
    print(f"{monitor.inputs} requests; layers that changed: {', '.join(monitor.named_layers)}")
    return monitor


def requests(known: Tensor, strangers: Tensor) -> Iterator[Tensor]:
    """Known digits, one after another; from CHANGE on every fourth request is a stranger."""
    stranger = iter(strangers)
    for number, x in enumerate(known):
        yield next(stranger) if number >= CHANGE and number % 4 == 0 else x


def load_data() -> tuple[TensorDataset, TensorDataset, Tensor, Tensor]:
    """Digits 0 to 7 to learn, to calibrate and to serve; 8s and 9s that come unasked."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(y)))
    known, strangers = order[y[order] < 8], order[y[order] >= 8]
    train, held_out, new = known.tensor_split([700, 1050])
    return (
        TensorDataset(x[train], y[train]),
        TensorDataset(x[held_out], y[held_out]),
        x[new],
        x[strangers],
    )


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
