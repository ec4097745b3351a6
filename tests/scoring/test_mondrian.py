"""p-values within the predicted class, and of weighted calibration inputs, against loops."""

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.scoring import conformal_p_values
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.mondrian import OWN, Mondrian, check_weights, effective_size


def by_loop(scores, classes, weights, new, new_classes, own):
    found = []
    for score, k in zip(new, new_classes, strict=True):
        rows = [i for i in range(len(scores)) if k not in own or classes[i] == k]
        heaviest = max(weights[i] for i in rows)
        above = sum(weights[i] for i in rows if scores[i] >= score)
        found.append((heaviest + above) / (heaviest + sum(weights[i] for i in rows)))
    return found


def made_up(seed: int = 0):
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 2, 3, 5], [OWN + 21, OWN, OWN - 1, 7])  # 1 and 4 are never seen
    scores = rng.integers(0, 60, len(classes)).astype(float) + 10 * (classes == 2)
    new = np.concatenate([rng.integers(-1, 75, 60).astype(float), [np.inf, -np.inf]])
    return scores, classes, new, rng.integers(0, 9, len(new)), rng.uniform(0.2, 5, len(classes))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_p_values_are_those_of_a_loop(weighted: bool, grouped: bool) -> None:
    scores, classes, new, new_classes, weights = made_up()
    weights = weights if weighted else np.ones(len(scores))
    groups = Mondrian.of(
        torch.from_numpy(scores),
        torch.from_numpy(classes) if grouped else None,
        torch.from_numpy(weights) if weighted else None,
    )
    group = groups.group(torch.from_numpy(new_classes))
    own = {0, 2} if grouped else set()
    assert ((group > 0) == torch.from_numpy(np.isin(new_classes, list(own)))).all()
    found = groups.p_values(torch.from_numpy(new), group)
    expected = by_loop(scores, classes, weights, new, new_classes, own)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_classes_and_weights_they_are_the_plain_ones() -> None:
    scores, _, new, _, _ = made_up()
    known, new = torch.from_numpy(scores), torch.from_numpy(new)
    groups = Mondrian.of(known)
    found = groups.p_values(new, torch.zeros(len(new), dtype=torch.long))
    assert torch.equal(found, conformal_p_values(known, new))
    assert groups.smallest() == 1 / (len(scores) + 1)


def test_the_smallest_p_value_is_that_of_the_smallest_class() -> None:
    scores, classes, *_ = made_up()
    groups = Mondrian.of(torch.from_numpy(scores), torch.from_numpy(classes))
    assert groups.smallest() == 1 / (OWN + 1)
    assert groups.totals.tolist() == [len(scores), OWN + 21, OWN]


def test_a_calibration_tells_the_classes_with_p_values_of_their_own() -> None:
    scores, classes, _, _, weights = made_up()
    layers = {"layer": torch.from_numpy(scores)[:, None]}
    predicted, weights = torch.from_numpy(classes), torch.from_numpy(weights)
    grouped = LayerCalibration(layers, "mean", by_class=True, predicted=predicted)
    assert grouped.class_sizes == {0: OWN + 21, 2: OWN}
    assert LayerCalibration(layers, "mean").class_sizes == {}
    weighted = LayerCalibration(layers, "mean", by_class=True, predicted=predicted, weights=weights)
    assert weighted.class_sizes == {}


def test_a_known_shift_is_made_good() -> None:
    """ID inputs of which one kind is rare at calibration and common in the stream."""
    generator = torch.Generator().manual_seed(0)
    plain, weighted = [], []
    for _ in range(300):
        rare = torch.rand(500, generator=generator) < 0.1
        scores = torch.randn(500, generator=generator) + 2 * rare
        new_rare = torch.rand(100, generator=generator) < 0.5
        new = torch.randn(100, generator=generator) + 2 * new_rare
        weights = torch.where(rare, 0.5 / 0.1, 0.5 / 0.9)
        groups = Mondrian.of(scores, None, weights)
        group = torch.zeros(100, dtype=torch.long)
        plain.append(float((conformal_p_values(scores, new) <= 0.1).double().mean()))
        weighted.append(float((groups.p_values(new, group) <= 0.1).double().mean()))
    assert np.mean(plain) > 0.2
    assert 0.07 < np.mean(weighted) <= 0.1 + 3 * np.std(weighted) / 300**0.5


def test_effective_size() -> None:
    assert effective_size(torch.ones(40)) == 40
    assert effective_size(torch.tensor([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_none(value: float) -> None:
    with pytest.raises(InputError, match="weights: found 0, less, NaN or infinity, allowed: above"):
        check_weights(torch.tensor([1.0, value]), 2)
    with pytest.raises(InputError, match=r"weights: found shape \(2,\), allowed: \(3,\)"):
        check_weights(torch.ones(2), 3)


@pytest.mark.slow
def test_false_alarms_of_each_class() -> None:
    """Of each class with p-values of its own at most alpha; plain ones flag one class alone."""
    generator = torch.Generator().manual_seed(1)
    alpha, repeats, rates, plain = 0.05, 400, [], []
    for _ in range(repeats):
        classes = torch.arange(3).repeat_interleave(150)
        scale = torch.tensor([1.0, 1.0, 3.0])
        scores = torch.randn(450, generator=generator) * scale[classes]
        new = torch.randn(450, generator=generator) * scale[classes]
        groups = Mondrian.of(scores, classes)
        flagged = groups.p_values(new, groups.group(classes)) <= alpha
        rates.append([float(flagged[classes == k].double().mean()) for k in range(3)])
        flagged = conformal_p_values(scores, new) <= alpha
        plain.append([float(flagged[classes == k].double().mean()) for k in range(3)])
    k = int(alpha * 151)
    for rate in np.transpose(rates):
        assert abs(rate.mean() - k / 151) <= 3 * rate.std() / repeats**0.5
    assert np.mean(plain, axis=0)[2] > 2 * alpha > np.mean(plain, axis=0)[0]
