"""The public calls that the README of 0.1.1 names, on the nervecode that is on the path: JSON."""

from __future__ import annotations

import json
import sys
import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import nervecode
from nervecode.scoring import EmpiricalPercentileCalibrator, max_surprise, mean_surprise

NEW = hasattr(nervecode, "load")
NAMES = {
    "nervecode": ("WrappedModel", "wrap"),
    "nervecode.core": ("CodingTrace", "SoftCode"),
    "nervecode.scoring": ("EmpiricalPercentileCalibrator", "max_surprise", "mean_surprise"),
    "nervecode.training": ("CsvDiagnosticsLogger", "JsonlDiagnosticsLogger"),
}
METHODS = ("calibrate", "coding_loss", "forward_with_trace", "surprise")
CENTRES = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.5], [12.0, 12.0]])


def network(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, classes))


def recommended(model: nn.Sequential) -> Any:
    """K = 16, D = 8, all weights 1, the first layer; the two packages write it in two ways."""
    if NEW:
        weights = nervecode.core.SoftAssignment(1.0, 1.0, 1.0, 1.0)
        return nervecode.wrap(model, "first_linear", num_codes=16, coding_dim=8, assignment=weights)
    coding = import_module("nervecode.layers.linear").CodingLinear
    model[0] = coding(model[0], K=16, coding_dim=8)
    model[0].assignment.beta_distance = 1.0
    return nervecode.WrappedModel(model)


def quickstart() -> dict[str, Any]:
    model, x, y = network(2), torch.randn(64, 2), torch.arange(64) % 2
    bare = model(x).detach()
    wrapped = nervecode.wrap(model, layers="all_linear")
    logits = wrapped(x)
    loss = wrapped.coding_loss()
    (nn.CrossEntropyLoss()(logits, y) + 0.1 * loss).backward()
    with torch.no_grad():
        aggregated = wrapped.surprise()
        again, traces = wrapped.forward_with_trace(x)
    wrapped.calibrate([x[:32], x[32:]])
    calibrator = EmpiricalPercentileCalibrator(threshold_quantiles=(0.95,))
    calibrator.fit(aggregated.surprise, aggregation="mean")
    above = aggregated.surprise > calibrator.threshold_for()
    return {
        "outputs stay": bool((logits == bare).all() and (again == bare).all()),
        "gradients": all(p.grad is not None for p in model.parameters()),
        "coding loss": [list(loss.shape), bool(loss.isfinite())],
        "aggregated": [type(aggregated).__name__, aggregated.method, aggregated.num_layers],
        "surprise": [list(aggregated.surprise.shape), str(aggregated.surprise.dtype)],
        "traces": [list(traces), sorted({type(trace).__name__ for trace in traces.values()})],
        "mean": bool(torch.allclose(mean_surprise(traces).surprise, aggregated.surprise)),
        "max": bool((max_surprise(traces).surprise >= aggregated.surprise - 1e-6).all()),
        "above the threshold": int(above.sum()),
    }


def thresholds() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for scores in (torch.linspace(0, 1, 101), torch.arange(1, 11.0)):
        calibrator = EmpiricalPercentileCalibrator(threshold_quantiles=(0.95,))
        calibrator.fit(scores, aggregation="mean")
        values[f"threshold of {len(scores)}"] = float(calibrator.threshold_for())
        values[f"lowest of {len(scores)}"] = float(calibrator.percentiles(scores[:1]))
        if len(scores) > 10:
            values["percentiles"] = calibrator.percentiles(scores).tolist()
    values["type"] = type(calibrator.threshold_for()).__name__
    return values


def codes() -> dict[str, Any]:
    """What a layer coded, with which centres, and the surprise of it."""
    model = network(2)
    wrapped = recommended(model)
    with torch.no_grad():
        _, traces = wrapped.forward_with_trace(torch.randn(64, 2))
        (trace,) = traces.values()
        vectors = trace.vector if NEW else trace.reduced
        centres = wrapped.coders["0"].codebook.centres if NEW else model[0].codebook.centers
        surprise = wrapped.surprise().surprise
    return {"vectors": vectors.tolist(), "centres": centres.tolist(), "surprise": surprise.tolist()}


def auroc(seed: int) -> float:
    """Of three blobs and a far fourth: the recommended settings."""
    model = network(3)
    wrapped = recommended(model)
    optimiser = torch.optim.Adam(getattr(wrapped, "parameters", model.parameters)(), lr=1e-2)
    x, y = blobs(range(3), seed)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(wrapped(x[rows]), y[rows])
            optimiser.zero_grad()
            (loss + 0.1 * wrapped.coding_loss()).backward()
            optimiser.step()

    def surprise(points: Tensor) -> Tensor:
        with torch.no_grad():
            return max_surprise(wrapped.forward_with_trace(points)[1]).surprise

    known, strange = surprise(blobs(range(3), seed + 10)[0]), surprise(blobs([3], seed + 20)[0])
    return float((strange.unsqueeze(1) > known).double().mean())


def blobs(classes: Any, seed: int) -> tuple[Tensor, Tensor]:
    """(900, 2) points around some centres, and the numbers of these."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(list(classes)).repeat(900 // len(classes))
    return CENTRES[y] + 0.7 * torch.randn(len(y), 2, generator=generator), y


def main() -> None:
    warnings.simplefilter("ignore")
    lacking = [
        f"{module}.{name}"
        for module, names in NAMES.items()
        for name in names
        if not hasattr(import_module(module), name)
    ]
    lacking += [name for name in METHODS if not hasattr(nervecode.WrappedModel, name)]
    answers = {
        "file": nervecode.__file__,
        "lacking": lacking,
        "quickstart": quickstart(),
        "thresholds": thresholds(),
        "codes": codes(),
        "auroc": [auroc(seed) for seed in range(3)],
    }
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
