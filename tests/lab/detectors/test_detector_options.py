"""Hyperparameters of detectors from a config, against NumPy, scikit-learn and pytorch-ood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as library
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize

from nervecode.errors import InputError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features, extract
from nervecode.lab.schema import ModelConfig

MINIMAL = "name: mine\ndata: {id: digits}\nmodel: {name: mlp}\n"


@pytest.fixture(scope="module")
def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(120, 1, 8, 8, generator=generator), torch.arange(120) % 3)


@pytest.fixture(scope="module")
def model(samples: Samples) -> Classifier:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="small_cnn", width=8), samples, 3).eval()


@pytest.fixture(scope="module")
def seen(model: Classifier, samples: Samples) -> Features:
    return extract(model, samples, title="x", progress=Progress())


def test_mahalanobis_shrinks_towards_a_sphere(model: Classifier, seen: Features) -> None:
    z, y = seen.features.double().numpy(), seen.labels.numpy()
    centres = np.stack([z[y == label].mean(0) for label in range(3)])
    scatter = (z - centres[y]).T @ (z - centres[y]) + 1e-6 * np.eye(z.shape[1])
    for share in (0.01, 0.5):
        ridge = np.trace(scatter) / len(scatter) * np.eye(len(scatter))
        precision = np.linalg.inv((1 - share) * scatter + share * ridge)
        steps = z[:, None] - centres
        expected = np.einsum("nkd,de,nke->nk", steps, precision, steps).min(1) / 2
        found = DETECTORS["mahalanobis"](seen, model, shrinkage=share)(seen)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 7])
def test_knn_counts_as_many_neighbours(k: int, model: Classifier, seen: Features) -> None:
    z = seen.features.numpy()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for normalise, points in ((True, unit), (False, z)):
        distances, _ = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(points)
        found = DETECTORS["knn"](seen, model, k=k, normalise=normalise)(seen)
        np.testing.assert_allclose(found, distances[:, -1], atol=1e-3)


@pytest.mark.parametrize(
    ("number", "k"), [(9, 1), (999, 1), (1000, 2), (10_149, 20), (24_999, 49), (30_000, 50)]
)
def test_knn_counts_one_in_500_from_1_to_50(number: int, k: int, model: Classifier) -> None:
    z = torch.randn(number, 3, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(number, dtype=torch.long)
    seen = Features(torch.zeros(number, 8), z, (), none, torch.zeros(number, 0))
    few = replace(seen, features=z[:20] + 0.1)
    points, asked = (normalize(f.features).numpy() for f in (seen, few))
    distances, _ = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(asked)
    found = DETECTORS["knn"](seen, model)(few)
    np.testing.assert_allclose(found, distances[:, -1], atol=1e-3)
    if number == 9:
        with pytest.raises(ValueError, match="k=50 exceeds the number of ID samples"):
            DETECTORS["knn"](seen, model, k=50)


def test_the_residual_leaves_out_as_many_axes(model: Classifier, seen: Features) -> None:
    head = model.head
    for axes in (2, 5):
        vim = library.ViM(None, d=axes, w=head.weight.detach(), b=head.bias.detach())
        vim.fit_features(seen.features, seen.labels)
        basis = vim.principal_subspace
        assert basis.shape == (16, 16 - axes)
        expected = ((seen.features - vim.u) @ basis).norm(dim=1)
        found = DETECTORS["residual"](seen, model, axes=axes)(seen)
        torch.testing.assert_close(found, expected)


def test_gen_and_odin_take_theirs(model: Classifier, seen: Features) -> None:
    p = seen.logits.double().softmax(1)
    for gamma in (0.1, 0.6):
        found = DETECTORS["gen"](seen, model, gamma=gamma)(seen)
        expected = (p**gamma * (1 - p) ** gamma).mean(1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    found = DETECTORS["odin"](seen, model, temperature=10.0, step=0.1)(seen)
    oracle = library.ODIN(model, eps=0.1, temperature=10.0).predict(seen.inputs)
    torch.testing.assert_close(found, oracle.detach())


def test_gen_takes_the_likeliest_classes(model: Classifier, seen: Features) -> None:
    p = seen.logits.double().softmax(1).sort(dim=1, descending=True).values
    for classes in (1, 2, 100):
        kept = p[:, :classes]
        found = DETECTORS["gen"](seen, model, classes=classes)(seen)
        torch.testing.assert_close(
            found.double(), (kept**0.1 * (1 - kept) ** 0.1).mean(1), rtol=1e-5, atol=1e-6
        )


def test_nci_counts_the_length_of_the_features(model: Classifier, seen: Features) -> None:
    weight = model.head.weight.detach()[seen.logits.argmax(1)]
    for alpha in (0.0, 0.5):
        centred = seen.features - seen.features.mean(0)
        near = (centred * weight).sum(1) / centred.norm(dim=1)
        expected = -(near + alpha * seen.features.norm(p=1, dim=1))
        found = DETECTORS["nci"](seen, model, alpha=alpha)(seen)
        torch.testing.assert_close(found, expected)


def _wide(width: int) -> tuple[Any, Features]:
    """A head of so many features, and features that are not negative."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(width, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, width, generator=generator))
    z = torch.rand(20, width, generator=generator).square()
    logits = head(z).detach()
    return SimpleNamespace(head=head), Features(logits, z, (), logits.argmax(1), z)


@pytest.mark.parametrize(("width", "pruned", "scaled"), [(511, 65, 65), (512, 90, 85)])
def test_features_are_cut_by_their_number(width: int, pruned: int, scaled: int) -> None:
    model, seen = _wide(width)
    weight, bias = model.head.weight.detach().double(), model.head.bias.detach().double()
    for name, percentile in (("ash", pruned), ("scale", scaled)):
        found = DETECTORS[name](seen, model)(seen)
        torch.testing.assert_close(found, DETECTORS[name](seen, model, percentile=percentile)(seen))
        kept = width - int(np.round(width * percentile / 100))
        for z, score in zip(seen.features.double(), found, strict=True):
            largest = z.sort(descending=True).values[:kept]
            factor = (z.sum() / largest.sum()).exp()
            shaped = torch.where(z >= largest[-1], z, 0.0) if name == "ash" else z
            energy = -(weight @ (shaped * factor) + bias).logsumexp(0)
            assert score.item() == pytest.approx(energy.item(), rel=1e-3)


@pytest.mark.parametrize("percentile", [-1.0, 100.0, 150.0])
def test_no_percentile_is_one_clear_line(
    percentile: float, seen: Features, model: Classifier
) -> None:
    for name in ("ash", "scale", "react"):
        with pytest.raises(InputError, match=f"percentile: found {percentile}, allowed: between"):
            DETECTORS[name](seen, model, percentile=percentile)


def test_values_that_nobody_means_are_one_clear_line(seen: Features, model: Classifier) -> None:
    for name, options in (
        ("nci", {"alpha": -0.1}),
        ("gen", {"classes": -1}),
        ("gen", {"classes": 0}),
    ):
        ((option, value),) = options.items()
        with pytest.raises(InputError, match=f"{option}: found {value}, allowed: "):
            DETECTORS[name](seen, model, **options)


def test_what_may_be_set_is_known_with_its_default() -> None:
    found = {name: one.options for name, one in DETECTORS.items() if one.options}
    assert found == {
        "adascale": {"p_max": 85.0},
        "ash": {"percentile": 0.0},
        "gen": {"gamma": 0.1, "classes": 100},
        "knn": {"k": 0, "normalise": True},
        "mahalanobis": {"shrinkage": 0.0},
        "mahalanobis++": {"shrinkage": 0.0},
        "nci": {"alpha": 1e-4},
        "odin": {"temperature": 1000.0, "step": 0.0014},
        "react": {"percentile": 90.0},
        "residual": {"axes": 0},
        "scale": {"percentile": 0.0},
        "weiper_kld": {
            "distance": 1.8,
            "lambda_1": 2.5,
            "lambda_2": 0.1,
            "smoothing": 4,
            "smoothing_logits": 15,
        },
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("bench.options={knnn: {k: 5}}", "unknown detector 'knnn'; did you mean 'knn'?"),
        ("bench.options={knn: {kk: 5}}", "unknown option of knn 'kk'; did you mean 'k'?"),
        ("bench.options={msp: {k: 5}}", "unknown option of msp 'k'; Allowed: (none)"),
        ("bench.options.knn.k=2.5", "knn.k: found 2.5, allowed: as 0"),
        ("bench.options.knn.k=true", "knn.k: found True, allowed: as 0"),
        ("bench.options.knn.normalise=1", "knn.normalise: found 1, allowed: as True"),
        ("bench.options.gen.gamma=x", "gen.gamma: found 'x', allowed: as 0.1"),
        ("bench.options=[knn]", "bench.options: found ['knn'], allowed: a mapping"),
        ("bench.options.knn=5", "bench.options.knn: found 5, allowed: a mapping"),
    ],
)
def test_bad_options_are_one_clear_line(override: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL)
    with pytest.raises(InputError) as caught:
        resolve(file=file, overrides=[override])
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_plus_in_a_name_is_taken_by_file_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL + "bench: {options: {mahalanobis++: {shrinkage: 0.1}}}")
    assert resolve(file=file).config.bench.options == {"mahalanobis++": {"shrinkage": 0.1}}
    overrides = [
        "bench.detectors=[rmd++, mahalanobis++]",
        "bench.options.mahalanobis++.shrinkage=1",
    ]
    bench = resolve(file=file, overrides=overrides).config.bench
    assert bench.detectors == ("rmd++", "mahalanobis++")
    assert bench.options == {"mahalanobis++": {"shrinkage": 1}}
    with pytest.raises(InputError, match=r"unknown detector 'rmd\+'; did you mean 'rmd"):
        resolve(file=file, overrides=["bench.detectors=[rmd+]"])


def test_options_of_a_config_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINIMAL + "bench: {options: {knn: {k: 5, normalise: false}, gen: {gamma: 1}}}")
    options = resolve(file=file).config.bench.options
    assert options == {"knn": {"k": 5, "normalise": False}, "gen": {"gamma": 1}}
