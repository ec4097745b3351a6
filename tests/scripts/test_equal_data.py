"""scripts/equal_data.py: its figures against scikit-learn's, of models that are fitted by hand."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.detectors.tools import library
from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.bench import guarded, prepare, run_stages
from nervecode.lab.stages.checkpoint import load_calibrated
from nervecode.layers import WrappedModel

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "name=tiny", "data.shift=[]", "train.epochs=20",
    "bench.detectors=[msp, gmm, knn, gram]", "bench.options={knn: {k: 1}}",
)  # fmt: skip

Scores = Callable[[Tensor], np.ndarray]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import equal_data

    yield equal_data
    sys.modules.pop("equal_data", None)


def trained(parent: Path, *overrides: str, seeds: tuple[int, ...] = (0,)) -> RunDir:
    settings = {"seeds": list(seeds)}
    config = resolve(preset="wine_1", overrides=[*TINY, *overrides], settings=settings).config
    run = RunDir.create(config, parent, command="x")
    prepared = prepare(config)
    with guarded(run):
        run_stages(run, prepared, ("train", "calibrate"), progress=Progress())
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return trained(tmp_path_factory.mktemp("runs"))


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["equal_data.py", *map(str, arguments)])
    return int(script.command_line())


def by_hand(splits: Splits, scores: Scores) -> tuple[float, float]:
    """Near and far AUROC x100 of what scores inputs."""
    inside, found = scores(splits.test.inputs), {"near": [], "far": []}
    for ood in splits.ood:
        outside = scores(ood.samples.inputs)
        is_ood = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
        found[ood.group].append(100 * roc_auc_score(is_ood, np.r_[inside, outside]))
    return float(np.mean(found["near"])), float(np.mean(found["far"]))


def features(wrapped: WrappedModel, inputs: Tensor) -> Tensor:
    """What the head is given."""
    seen: list[Tensor] = []
    handle = wrapped.model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        wrapped.model(inputs)
    handle.remove()
    return seen[0]


def gaussians(wrapped: WrappedModel, *parts: Samples) -> Scores:
    z = torch.cat([features(wrapped, part.inputs) for part in parts])
    detector = library().GMM(None).fit_features(z, torch.cat([part.labels for part in parts]))
    return lambda inputs: detector.predict_features(features(wrapped, inputs)).numpy()


def shrunk(wrapped: WrappedModel, *parts: Samples) -> Scores:
    """Mahalanobis distance with the covariance and inverse of scikit-learn."""
    z = torch.cat([features(wrapped, part.inputs) for part in parts]).double().numpy()
    labels = torch.cat([part.labels for part in parts]).numpy()
    means = np.stack([z[labels == c].mean(0) for c in range(labels.max() + 1)])
    inverse = OAS(assume_centered=True).fit(z - means[labels]).precision_

    def scores(inputs: Tensor) -> np.ndarray:
        away = features(wrapped, inputs).double().numpy()[:, None] - means
        return np.einsum("ncd,de,nce->nc", away, inverse, away).min(1)

    return scores


def surprise(wrapped: WrappedModel, part: Samples) -> Scores:
    wrapped.calibrate([(part.inputs, part.labels)])

    def scores(inputs: Tensor) -> np.ndarray:
        with torch.no_grad():
            return wrapped.score(inputs)[1].score.numpy()

    return scores


@pytest.mark.slow
def test_figures_are_those_of_models_fitted_by_hand(
    script: ModuleType,
    run: RunDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "rows.csv"
    assert call(script, monkeypatch, run.root, "--shrink", "--csv", path) == 0
    with path.open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert "gram" not in rows
    splits = build_splits(run.config.data)
    wrapped = load_calibrated(run, 0, device=torch.device("cpu")).signals["nervecode"]
    train, both = (splits.train,), (splits.train, splits.calibration)
    wanted = {
        ("nervecode", "train"): surprise(wrapped, splits.train),
        ("gmm", "train"): gaussians(wrapped, *train),
        ("gmm", "both"): gaussians(wrapped, *both),
        ("mahalanobis, OAS", "train"): shrunk(wrapped, *train),
        ("mahalanobis, OAS", "both"): shrunk(wrapped, *both),
    }
    figures = {key: by_hand(splits, scores) for key, scores in wanted.items()}
    figures["nervecode", "both"] = by_hand(splits, surprise(wrapped, splits.calibration))
    for (method, data), (near, far) in figures.items():
        found = [float(rows[method][f"{group}_{data}"]) for group in ("near", "far")]
        assert found == pytest.approx([near, far], abs=0.006), (method, data)
    assert figures["nervecode", "train"] != figures["nervecode", "both"]
    assert figures["gmm", "train"] != figures["gmm", "both"]
    assert rows["msp"]["near_train"] == rows["msp"]["near_both"]
    out = capsys.readouterr().out
    rules, alone = (np.mean(figures["nervecode", data]) for data in ("both", "train"))
    assert f"| tiny | {rules:.2f} | {alone:.2f} |" in out
    gmm = [np.mean(figures["gmm", data]) for data in ("train", "both")]
    assert f"| `gmm` | {gmm[0]:.2f} | {gmm[1]:.2f} | {gmm[1] - gmm[0]:+.2f} |" in out


@pytest.mark.slow
def test_what_fails_is_named_and_does_not_stop_the_others(
    script: ModuleType,
    run: RunDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = trained(tmp_path, "name=none_near", "data.near=[]")
    assert call(script, monkeypatch, run.root, other.root, "--detectors", "msp") == 1
    out, err = capsys.readouterr()
    assert "| tiny |" in out
    assert "none_near: data.near: found no set, allowed: at least one" in err
    assert call(script, monkeypatch, run.root, run.root) == 2
    assert f"{run.root}: has seed 0, as {run.root} has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such run directory"),
        (["nowhere", "--detectors", "gm"], "--detectors: unknown 'gm'; did you mean 'gmm'?"),
        (["nowhere", "--csv", "rows.txt"], "--csv rows.txt: unknown suffix '.txt'"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    told: str,
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(script, monkeypatch, *arguments) == 2
    assert told in capsys.readouterr().err
