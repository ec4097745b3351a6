"""From layers to one number, and to its p-value, one input at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nervecode.scoring.exact import made_exact
from nervecode.scoring.layer_calibration import LayerCalibration
from tests.mathematics import oracle
from tests.mathematics.oracle import Array

CLASSES, LAYERS = 3, 2


def readings(n: int, seed: int) -> dict[str, Array]:
    """Layer -> (n, 2) code lengths and regrets; of the label its regret and the predicted class."""
    random = np.random.default_rng(seed)
    classes = random.integers(CLASSES, size=n)
    layers = {
        f"layer{i}": np.stack(
            [random.normal(10 * i + classes, 1 + classes), random.gumbel(size=n) * (i + 2)], 1
        )
        for i in range(LAYERS)
    }
    return layers | {"head:label": np.stack([random.exponential(size=n), classes], 1)}


def tensors(parts: dict[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(part) for name, part in parts.items()}


def mean_standard(known: dict[str, Array], new: dict[str, Array], part: int) -> Array:
    """(N,) mean over the layers of z(B) or z(R), with the figures of all calibration inputs."""
    names = [name for name in known if not name.endswith(":label")]
    return np.mean(
        [[oracle.standard(known[n][:, part], s) for s in new[n][:, part]] for n in names], axis=0
    )


def reached(known: dict[str, Array]) -> dict[str, Array]:
    """The readings that means and deviations are of."""
    return {name: np.stack([oracle.within_reach(c) for c in rows.T], 1)
            for name, rows in known.items()}  # fmt: skip


def given_class(known: Array, of_known: Array, score: float, k: float) -> float:
    """Standardised by the class, whose figures weigh n_k / (n_k + 20)."""
    own = known[of_known == k]
    w = len(own) / (len(own) + 20)
    m_k, s_k = (own.mean(), own.std()) if len(own) else (0.0, 0.0)
    m, s = known.mean(), known.std()
    return float((score - (w * m_k + (1 - w) * m)) / (w * s_k + (1 - w) * s))


def without(values: Array, i: int) -> Array:
    return np.delete(values, i, axis=0)


def alone_standard(known: dict[str, Array], part: int) -> Array:
    """(n,) the same of each calibration input, with the figures of the others."""
    rows = range(len(next(iter(known.values()))))
    return np.concatenate([
        mean_standard({n: without(r, i) for n, r in reached(known).items()},
                      {n: r[i : i + 1] for n, r in known.items()}, part)
        for i in rows
    ])  # fmt: skip


def code_lengths(known: dict[str, Array], new: dict[str, Array]) -> tuple[Array, Array]:
    """Scores of new inputs, and of the calibration inputs, each among the others or as if new."""
    classes = known["head:label"][:, 1]
    lengths, alone = mean_standard(reached(known), known, 0), alone_standard(known, 0)
    moderate = oracle.within_reach(lengths)
    own, own_alone = (
        np.array([
            given_class(without(moderate, i), without(classes, i), one[i], classes[i])
            for i in range(len(lengths))
        ])
        for one in (lengths, alone)
    )  # fmt: skip
    as_if_new = [
        given_class(moderate, classes, s, k) for s, k in zip(lengths, classes, strict=True)
    ]
    own = np.maximum(own, as_if_new)
    weights, label = (3 / 2, 1, 1), known["head:label"][:, 0]
    terms = [own, mean_standard(reached(known), known, 1), label]
    alone_terms = [own_alone, alone_standard(known, 1), label]
    held_out = [
        np.dot(weights, [oracle.rarity(without(t, i), s[i])
                         for t, s in zip(terms, alone_terms, strict=True)])
        for i in range(len(own))
    ]  # fmt: skip

    def as_new(rows: dict[str, Array]) -> Array:
        fresh = [
            [given_class(moderate, classes, s, k) for s, k in
             zip(mean_standard(reached(known), rows, 0), rows["head:label"][:, 1], strict=True)],
            mean_standard(reached(known), rows, 1), rows["head:label"][:, 0],
        ]  # fmt: skip
        scores = [[oracle.rarity(t, s) for s in row] for t, row in zip(terms, fresh, strict=True)]
        return np.array(np.dot(weights, scores))

    return as_new(new), np.maximum(held_out, as_new(known))


def raised(known: dict[str, Array]) -> dict[str, Array]:
    """Calibration readings, by what rounding can be: 1e-5 (1 + |bits|), 1e-4 of the label's."""
    above = {name: rows + 1e-5 * (1 + np.abs(rows)) for name, rows in known.items()}
    if (label := known.get("head:label")) is not None:
        above["head:label"] = np.stack([label[:, 0] * (1 + 1e-4), label[:, 1]], axis=1)
    return above


@pytest.mark.parametrize("broken", [0, 1, 7])
def test_code_length_and_its_p_values(broken: int) -> None:
    known, new = readings(70, 0), readings(25, 1)
    known["layer0"][:broken] += 1e6
    known["layer1"][10 : 10 + broken, 1] -= 1e3
    new["layer0"][:5, 0] += 40
    new["head:label"][5:8, 1] = CLASSES  # a class that calibration never showed
    scores, held_out = code_lengths(raised(known), new)
    calibration = LayerCalibration(tensors(known), "code_length")
    found = calibration.scores_of(tensors(new))
    np.testing.assert_allclose(found, scores, rtol=1e-8)
    np.testing.assert_allclose(calibration.scores, held_out, rtol=1e-8)
    np.testing.assert_allclose(
        calibration.p_values(found), [oracle.p_value(held_out, s) for s in scores]
    )


def test_code_length_and_its_p_values_where_one_half_makes_the_score() -> None:
    known, new = readings(70, 0), readings(25, 1)
    calibration = made_exact(LayerCalibration(tensors(known), "code_length"))
    assert calibration.standard is not None
    standard = raised({n: rows.double().numpy() for n, rows in calibration.standard.items()})
    ranked = {name: rows.double().numpy() for name, rows in calibration.layers.items()}
    scores, known_scores = (code_lengths(standard, rows)[0] for rows in (new, raised(ranked)))
    found = calibration.scores_of(tensors(new))
    np.testing.assert_allclose(found, scores, rtol=1e-8)
    np.testing.assert_allclose(calibration.scores, known_scores, rtol=1e-8)
    np.testing.assert_allclose(
        calibration.p_values(found), [oracle.p_value(known_scores, s) for s in scores]
    )


@pytest.mark.parametrize("method", ["mean", "max", "total", "simes", "harmonic", "fisher"])
def test_the_other_methods(method: str) -> None:
    known, new = readings(50, 2), readings(20, 3)
    calibration = LayerCalibration(tensors(known), method)
    names = list(known)
    expected = []
    for i in range(20):
        surprise = [new[name][i, 0] for name in names]
        p = np.array([[oracle.p_value(known[n][:, 0], s)
                       for n, s in zip(names, surprise, strict=True)]])  # fmt: skip
        ordered, size = np.sort(p[0]), len(names)
        x = -np.log(p).sum()
        expected.append({
            "mean": np.mean(surprise),
            "max": np.max(surprise),
            "total": np.sum(surprise),
            "simes": -math.log2(min(size * one / j for j, one in enumerate(ordered, start=1))),
            "harmonic": -math.log2(min(1, math.e * math.log(size) * size / (1 / p).sum())),
            "fisher": -math.log2(
                math.exp(-x) * sum(x**k / math.factorial(k) for k in range(size))
            ),
        }[method])  # fmt: skip
    np.testing.assert_allclose(calibration.scores_of(tensors(new)), expected, rtol=1e-8, atol=1e-9)
