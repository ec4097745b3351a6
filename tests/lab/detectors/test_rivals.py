"""The detectors that no library has, against loops over inputs, features and bins."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.random import default_rng
from pytest import MonkeyPatch

from nervecode.lab.data.samples import Samples
from nervecode.lab.detectors import adascale, nac, weiper
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features, extract
from nervecode.lab.schema import ModelConfig

Array = npt.NDArray[np.float64]
CLASSES = 3


@pytest.fixture(scope="module")
def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(90, 1, 8, 8, generator=generator), torch.arange(90) % CLASSES)


@pytest.fixture(scope="module")
def model(samples: Samples) -> Classifier:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="small_cnn", width=20), samples, CLASSES).eval()


@pytest.fixture(scope="module")
def train(model: Classifier, samples: Samples) -> Features:
    return extract(model, samples, title="x", progress=Progress())


@pytest.fixture(scope="module")
def test(model: Classifier) -> Features:
    inputs = 1.5 * torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.2
    return extract(model, Samples.unlabelled(inputs), title="x", progress=Progress())


def arrays(split: Features) -> Array:
    return split.features.double().numpy()


# Mahalanobis++ and its relative form


def squared(z: Array, mean: Array, scatter: Array) -> float:
    return float((z - mean) @ np.linalg.solve(scatter, z - mean))


def unit_length(rng: np.random.Generator, rows: int) -> tuple[Features, Array]:
    """Features of lengths from 0.1 to 100 on three cones, and what they are at length 1."""
    z = rng.normal(size=(rows, 6)) + 3 * np.eye(6)[np.arange(rows) % CLASSES]
    z *= 10 ** rng.uniform(-1, 2, size=(rows, 1))
    labels = torch.arange(rows) % CLASSES
    split = Features(torch.zeros(rows, CLASSES), torch.tensor(z), (), labels, torch.zeros(rows))
    return split, np.array([row / np.sqrt(sum(row**2)) for row in z])


@pytest.mark.parametrize("name", ["mahalanobis++", "rmd++"])
def test_features_count_at_unit_length(name: str, model: Classifier) -> None:
    rng = default_rng(0)
    (known, x), (new, z) = unit_length(rng, 300), unit_length(rng, 40)
    means = [x[k::CLASSES].mean(0) for k in range(CLASSES)]
    inside = sum(np.outer(row - means[i % CLASSES], row - means[i % CLASSES])
                 for i, row in enumerate(x))  # fmt: skip
    around = sum(np.outer(row - x.mean(0), row - x.mean(0)) for row in x)
    expected = []
    for row in z:
        nearest = min(squared(row, mean, inside) for mean in means)
        expected.append(
            nearest / 2 if name == "mahalanobis++" else nearest - squared(row, x.mean(0), around)
        )
    found = DETECTORS[name](known, model)(new)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    longer = replace(new, features=7 * new.features)
    np.testing.assert_allclose(DETECTORS[name](known, model)(longer), found)


@pytest.mark.parametrize("plain", ["multi_mahalanobis", "gmm"])
def test_blocks_and_densities_count_at_unit_length(plain: str, model: Classifier) -> None:
    rng = default_rng(1)
    (known, x), (new, z) = unit_length(rng, 300), unit_length(rng, 40)
    known = replace(known, blocks=(known.features, known.features[:, :4]))
    new = replace(new, blocks=(new.features, new.features[:, :4]))

    def shortened(split: Features, rows: Array) -> Features:
        first = split.features[:, :4].numpy()
        part = first / np.sqrt((first**2).sum(1, keepdims=True))
        blocks = torch.tensor(rows), torch.tensor(part)
        return replace(split, features=torch.tensor(rows), blocks=blocks)

    expected = DETECTORS[plain](shortened(known, x), model)(shortened(new, z))
    found = DETECTORS[f"{plain}++"](known, model)(new)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    longer = replace(new, features=7 * new.features, blocks=tuple(7 * b for b in new.blocks))
    np.testing.assert_allclose(DETECTORS[f"{plain}++"](known, model)(longer), found, rtol=1e-6)
    assert not np.allclose(DETECTORS[plain](known, model)(new), found)


def test_the_scale_free_distance_shrinks_too(model: Classifier) -> None:
    known, x = unit_length(default_rng(0), 60)
    means = np.array([x[k::CLASSES].mean(0) for k in range(CLASSES)])
    steps = x - means[np.arange(60) % CLASSES]
    scatter = steps.T @ steps
    scatter = 0.7 * scatter + 0.3 * np.trace(scatter) / 6 * np.eye(6)
    expected = [min(squared(row, mean, scatter) for mean in means) / 2 for row in x]
    found = DETECTORS["mahalanobis++"](known, model, shrinkage=0.3)(known)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


# pNML


def regret(z: Array, q: float, head: tuple[Array, Array]) -> float:
    weight, bias = head
    logits = weight @ z + bias
    p = np.exp(logits) / np.exp(logits).sum()
    g = q / (1 + q)
    return float(np.log(sum(pk / (pk + (1 - pk) * pk**g) for pk in p)) / np.log(len(p)))


def head_in_double(model: Classifier) -> tuple[Array, Array]:
    head = model.head
    return head.weight.detach().double().numpy(), head.bias.detach().double().numpy()


@pytest.mark.parametrize("rank", [40, 5])
def test_pnml_is_the_regret_in_the_span_of_id_train(rank: int, model: Classifier) -> None:
    """Directions of 1e-8 of the variance count, those that ID train is not in at all do not."""
    rng = default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0][:rank]
    inside = rng.normal(size=(300, rank)) * np.geomspace(1, 1e-4, rank)
    known = inside @ basis
    new = rng.normal(size=(30, 40)) * rng.uniform(0.1, 50, size=(30, 1))
    inside /= np.sqrt((inside**2).sum(1, keepdims=True))
    inverse = np.linalg.inv(inside.T @ inside)
    expected = []
    for row in new:
        z = row / np.sqrt(row @ row)
        expected.append(regret(z, float(basis @ z @ inverse @ basis @ z), head_in_double(model)))
    score = DETECTORS["pnml"](of_rows(known), model)
    np.testing.assert_allclose(score(of_rows(new)), expected, rtol=1e-6)


def of_rows(features: Array) -> Features:
    n = len(features)
    z = torch.tensor(features)
    return Features(torch.zeros(n, CLASSES), z, (), torch.arange(n) % CLASSES, torch.zeros(n))


def test_pnml_takes_a_head_that_is_sure(model: Classifier, train: Features) -> None:
    sure = deepcopy(model)
    with torch.no_grad():
        sure.head.weight.mul_(1e6)
    scores = DETECTORS["pnml"](train, sure)(train)
    assert scores.isfinite().all()
    assert (scores >= 0).all()


# NAC


def coverage(z: Array, known: Array, head: tuple[Array, Array]) -> float:
    """Mean over features of min(n / 50, 1), n the rows of ID train in the same of 48 bins."""
    weight, bias = head
    steps = [1 + i * (np.sqrt(1000) - 1) / 24 for i in range(24)]
    low = [np.log(step) / np.log(1000) for step in steps]
    edges = [*low, 0.5, *[1 - edge for edge in reversed(low)]]

    def bins(row: Array) -> list[int]:
        logits = weight @ row + bias
        p = np.exp(logits) / np.exp(logits).sum()
        found = []
        for j, value in enumerate(row):
            # of KL(uniform, p) = const - mean_k log p_k, log p_k = logit_k - log sum exp(logits)
            slope = sum(p[k] * weight[k, j] - weight[k, j] / len(p) for k in range(len(p)))
            state = 1 / (1 + np.exp(-100 * value * slope))
            found.append(max(b for b in range(48) if b == 0 or edges[b] <= state))
        return found

    table = [bins(row) for row in known]
    return float(
        np.mean([min(sum(row[j] == b for row in table) / 50, 1) for j, b in enumerate(bins(z))])
    )


def test_nac_is_the_coverage_of_the_authors_bins(
    model: Classifier, train: Features, test: Features
) -> None:
    known, new = (replace(s, features=s.features * 5) for s in (train, test))
    known.features[::2, 0] = new.features[0, 0] = 0  # at an edge
    head = head_in_double(model)
    expected = [-coverage(row, arrays(known), head) for row in arrays(new)]
    found = DETECTORS["nac"](known, model)(new)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nac_counts_a_thousand_inputs_of_id_train(
    model: Classifier, train: Features, monkeypatch: MonkeyPatch
) -> None:
    counted: list[torch.Tensor] = []
    states = nac._states
    monkeypatch.setattr(nac, "_states", lambda z, head: counted.append(z) or states(z, head))
    numbered = torch.arange(1500.0)[:, None].expand(-1, model.head.in_features)
    for _ in range(2):
        DETECTORS["nac"](replace(train, features=numbered), model)
    assert len(counted[0].unique(dim=0)) == len(counted[0]) == 1000
    assert counted[0].mean().item() == pytest.approx(numbered.mean().item(), rel=0.05)
    assert torch.equal(counted[0], counted[1])


# WeiPer+KLD


def histogram(values: Array, low: float, high: float) -> Array:
    counts = np.zeros(100)
    for value in values:
        if low <= value <= high:
            counts[min(int((value - low) / ((high - low) / 100)), 99)] += 1
    return counts / len(values)


def smoothed(shares: Array, width: int) -> Array:
    before = (width - 1) // 2
    return np.array(
        [
            np.mean([shares[min(max(b - before + j, 0), 99)] for j in range(width)])
            for b in range(100)
        ]
    )


def divergence(row: Array, rows: Array, width: int, floor: float) -> float:
    """KL(p, q) + KL(q, p) of the smoothed histogram q of a row and the mean p over rows."""
    low, high = rows.min(), rows.max()
    p = np.mean([histogram(known, low, high) for known in rows], axis=0) + floor
    q = smoothed(histogram(row, low, high), width) + floor
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p)))


def weiper_score(
    z: Array, known: Array, head: tuple[Array, Array], noise: Array, setting: dict[str, float]
) -> float:
    weight, bias = head

    def logits(features: Array) -> Array:
        return np.array(
            [
                [
                    (w + setting["distance"] * np.sqrt(w @ w) * e / np.sqrt(e @ e)) @ features + b
                    for w, b, e in zip(weight, bias, directions, strict=True)
                ]
                for directions in noise
            ]
        )

    perturbed = logits(z)
    confidence = np.mean([np.exp(row).max() / np.exp(row).sum() for row in perturbed])
    rows = np.array([logits(row).ravel() for row in known])
    return float(
        divergence(z, known, int(setting["smoothing"]), 0.01)
        + setting["lambda_1"]
        * divergence(perturbed.ravel(), rows, int(setting["smoothing_logits"]), 0.025)
        - setting["lambda_2"] * confidence
    )


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"distance": 0.5, "lambda_1": 0.1, "lambda_2": 3.0, "smoothing": 7, "smoothing_logits": 2},
    ],
)
def test_weiper_is_the_divergence_of_its_histograms(
    setting: dict[str, float],
    model: Classifier,
    train: Features,
    test: Features,
    monkeypatch: MonkeyPatch,
) -> None:
    monkeypatch.setattr(weiper, "REPEATS", 4)
    shape = (4, *model.head.weight.shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double().numpy()
    whole = {**DETECTORS["weiper_kld"].options, **setting}
    expected = [
        weiper_score(row, arrays(train), head_in_double(model), noise, whole)
        for row in arrays(test)
    ]
    found = DETECTORS["weiper_kld"](train, model, **setting)(test)
    # An entry that lies on the edge of a bin may fall to either side.
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
    assert np.median(np.abs(found.numpy() - expected)) < 1e-4


def test_weiper_takes_the_settings_of_its_authors() -> None:
    assert DETECTORS["weiper_kld"].options == {
        "distance": 1.8, "lambda_1": 2.5, "lambda_2": 0.1, "smoothing": 4, "smoothing_logits": 15,
    }  # fmt: skip
    assert (weiper.REPEATS, weiper.BINS) == (100, 100)


def test_weiper_takes_features_without_spread(model: Classifier, train: Features) -> None:
    flat = replace(train, features=torch.zeros_like(train.features))
    assert DETECTORS["weiper_kld"](flat, model)(flat).isfinite().all()


# AdaSCALE


def observed(model: Classifier, split: Features) -> tuple[Array, Array]:
    """Features, and Q: 10 times the moves of the largest 1 %, and the values of the largest 5 %."""
    features, answers = [], []
    for image in split.inputs:
        x = ((image[None] - model.mean) / model.std).requires_grad_()
        z = model.features(x)
        logits = model.head(z)[0]
        (gradient,) = torch.autograd.grad(logits[logits.argmax()], x)
        slope = gradient.numpy().ravel()
        step = np.zeros(slope.size)
        for pixel in np.argsort(np.abs(slope), kind="stable")[: int(0.05 * slope.size)]:
            step[pixel] = 0.5 * np.sign(slope[pixel])
        with torch.no_grad():
            moved = model.features(x + torch.tensor(step).float().view_as(x))[0].double().numpy()
        still = z[0].detach().double().numpy()
        order = np.argsort(-still)
        shift = sum(abs(moved[j] - still[j]) for j in order[: max(1, int(0.01 * still.size))])
        value = sum(max(moved[j], 0) for j in order[: max(1, int(0.05 * still.size))])
        features.append(still)
        answers.append(10 * shift + value)
    return np.array(features), np.array(answers)


@pytest.mark.parametrize("p_max", [85.0, 65.0])
def test_adascale_scales_by_how_features_move(
    p_max: float, model: Classifier, train: Features, test: Features
) -> None:
    _, known = observed(model, train)
    weight, bias = model.head.weight.detach().double(), model.head.bias.detach().double()
    expected = []
    for z, answer in zip(*observed(model, test), strict=True):
        share = np.mean(known <= answer)
        percentile = 60 + (1 - share) * (p_max - 60)
        positive = np.maximum(z, 0)
        above = len(z) - round(len(z) * percentile / 100)
        scale = np.exp(positive.sum() / sum(sorted(positive)[::-1][:above]))
        logits = weight.numpy() @ (z * scale) + bias.numpy()
        expected.append(-np.log(np.sum(np.exp(logits))))
    found = DETECTORS["adascale"](train, model, p_max=p_max)(test)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert DETECTORS["adascale"].options == {"p_max": 85.0}


def test_adascale_knows_five_thousand_inputs(
    model: Classifier, train: Features, monkeypatch: MonkeyPatch
) -> None:
    counted: list[int] = []
    observe = adascale._observe
    monkeypatch.setattr(adascale, "_observe", lambda m, x: counted.append(len(x)) or observe(m, x))
    rows = torch.arange(5100) % 90
    many = replace(train, inputs=train.inputs[rows])
    DETECTORS["adascale"](many, model)
    assert sum(counted) == 5000


def test_adascale_takes_an_input_that_says_nothing(model: Classifier, train: Features) -> None:
    silent = replace(train, inputs=torch.zeros_like(train.inputs))
    assert DETECTORS["adascale"](silent, model)(silent).isfinite().all()
