"""More calibration inputs: the same as all at once, and what cannot be added."""

import math

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.scoring import changes, with_more
from nervecode.scoring.growth import share_known
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.remarks import remarks_on_selection


def readings(n: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (n, 1), generator=generator)
    head = torch.cat([torch.rand(n, 1, generator=generator), classes], dim=1)
    return {"a": torch.randn(n, 2, generator=generator), "head:label": head}


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_adding_is_calibrating_on_all(by_class: bool, weighted: bool) -> None:
    first, second = readings(400, 0), readings(60, 1)
    weights = torch.rand(460).double() + 0.1 if weighted else None
    before = LayerCalibration(
        first, "code_length", by_class=by_class, weights=weights[:400] if weighted else None
    )
    grown = with_more(before, second, None, weights[400:] if weighted else None)
    whole = {name: torch.cat([first[name], second[name]]) for name in first}
    again = LayerCalibration(whole, "code_length", by_class=by_class, weights=weights)
    for mine, other in zip(_flat(grown._tables), _flat(again._tables), strict=True):
        assert torch.equal(mine, other)
    assert before.num_samples == 400 and grown.num_samples == 460
    assert grown.smallest_alpha == again.smallest_alpha < before.smallest_alpha


def _flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in _flat(part)]
    return [value] if isinstance(value, torch.Tensor) else []


def test_changes_are_those_of_the_scores() -> None:
    before = LayerCalibration({"a": torch.arange(99.0)[:, None]}, "mean")
    after = with_more(before, {"a": torch.tensor([[97.0], [98.5], [3.0], [200.0]])})
    tenth, twentieth, hundredth = changes(before, after)
    # 10, 5 and 1 of 104 may be as surprising: scores above 92, 97 and 200 are flagged now.
    assert tenth == (0.1, 0.75, 0.75, pytest.approx(6 / 99))
    assert twentieth == (0.05, 0.75, 0.5, pytest.approx(1 / 99))
    assert hundredth == (0.01, 0.5, 0.0, 0.0)
    assert before.threshold(0.009) == math.inf
    with pytest.raises(InputError, match="threshold alpha: found 0, allowed: between"):
        before.threshold(0)


@pytest.mark.parametrize("by_class", [False, True])
def test_a_kind_that_is_added_is_flagged_less_from_then_on(by_class: bool) -> None:
    known, more = readings(400, 0), readings(200, 1)
    more["a"] += 4
    before = LayerCalibration(known, "code_length", by_class=by_class)
    after = with_more(before, more)
    scores, threshold = after.scores.numpy(), after.threshold(0.05)
    change = changes(before, after)[1]
    assert change.added_before > 0.9
    assert change.added == pytest.approx((scores[400:] > threshold).mean()) and change.added < 0.2
    assert change.known == pytest.approx((scores[:400] > threshold).mean()) and change.known < 0.05


@pytest.mark.parametrize("method", ["mean", "code_length", "simes"])
def test_flagged_is_what_exceeds_the_threshold(method: str) -> None:
    known = {"a": torch.randn(120, 2, generator=torch.Generator().manual_seed(0))}
    known["a"][60:] = known["a"][:60].round()  # ties
    calibration = LayerCalibration(known, method)
    scores = calibration.scores.sort().values
    for alpha in (0.01, 0.05, 0.1, 0.5):
        threshold = calibration.threshold(alpha)
        for score in {*scores.tolist(), threshold, float(scores[-1]) + 1}:
            p_value = (1 + int((scores >= score).sum())) / 121
            assert (p_value <= alpha) == (score > threshold)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_flagged_by_class_and_weight_is_what_exceeds_the_threshold(
    weighted: bool, by_class: bool
) -> None:
    known = readings(700, 0)
    known["a"][350:] = known["a"][:350].round()  # ties
    known["head:label"][:, 1] = torch.arange(700) % 20 // 9  # the last class is pooled
    generator = torch.Generator().manual_seed(1)
    weights = 10 * torch.rand(700, generator=generator).double() + 0.1 if weighted else None
    calibration = LayerCalibration(known, "code_length", by_class=by_class, weights=weights)
    found = calibration.scores.numpy()
    weights = np.ones(700) if weights is None else weights.numpy()
    classes = known["head:label"][:, 1].numpy()
    for predicted in (None, 0, 1, 2, 7) if by_class else (None,):
        own = classes == predicted if predicted in (0, 1) else np.full(700, True)
        heaviest, total = weights[own].max(), weights[own].sum()
        for alpha in (0.01, 0.05, 0.3, 0.9):
            threshold = calibration.threshold(alpha, predicted=predicted)
            for score in (*found[own][::7], threshold, found.max() + 1):
                p = (heaviest + weights[own & (found >= score)].sum()) / (heaviest + total)
                assert (p <= alpha) == (score > threshold)


def test_the_threshold_of_what_is_no_class() -> None:
    known = readings(400, 0)
    by_class = LayerCalibration(known, "code_length", by_class=True)
    for value in (1.5, "1", -1, True):
        with pytest.raises(InputError, match=f"threshold predicted: found {value!r}, allowed: a c"):
            by_class.threshold(0.1, predicted=value)
    assert by_class.threshold(0.1, predicted=np.int64(1)) == by_class.threshold(0.1, predicted=1)
    with pytest.raises(InputError, match="found 1, allowed: None without by_class"):
        LayerCalibration(known, "code_length").threshold(0.1, predicted=1)


def test_changes_of_weighted_inputs_are_by_weight() -> None:
    known, weights = {"a": torch.arange(99.0)[:, None]}, torch.where(torch.arange(99) < 50, 4.0, 1)
    before = LayerCalibration(known, "mean", weights=weights)
    assert before.threshold(0.1) == pytest.approx(77, rel=2e-5)  # (4 + 21) / 253 from 78 on
    after = with_more(before, {"a": torch.tensor([[77.5], [70.0]])}, None, torch.tensor([1.0, 3]))
    change = changes(before, after)[0]
    assert change.added_before == 0.25
    flagged = after.scores > after.threshold(0.1)
    assert change.known == pytest.approx(float(weights[flagged[:99]].sum() / weights.sum()))
    assert change.added == pytest.approx(float((flagged[99:] * torch.tensor([0.25, 0.75])).sum()))


def test_weights_of_inputs_that_are_left_out_do_not_count() -> None:
    known = {"a": torch.arange(300.0)[:, None]}
    known["a"][200:] = torch.nan
    weights = torch.where(torch.arange(300) < 100, 1.0, 3.0)
    calibration = LayerCalibration(known, "mean", weights=weights)
    (_, remark) = calibration.remarks()
    assert remark.startswith("the weights leave 160 of 200 inputs in effect")  # 400^2 / 1000


def test_inputs_that_cannot_be_read_are_like_none() -> None:
    known = {"a": torch.randn(300, 2, generator=torch.Generator().manual_seed(0))}
    strange = {"a": torch.full((20, 2), torch.nan)}
    assert share_known(known, strange) == share_known(strange, known) == 0


def test_what_cannot_be_added() -> None:
    before = LayerCalibration({"a": torch.randn(9, 2)}, "mean")
    with pytest.raises(InputError, match="layer 'b' is of the further inputs alone"):
        with_more(before, {"a": torch.randn(9, 2), "b": torch.randn(9, 2)})
    with pytest.raises(InputError, match="layer 'a' is of the calibration alone"):
        with_more(before, {"b": torch.randn(9, 2)})
    with pytest.raises(InputError, match="weights of the further inputs alone"):
        with_more(before, {"a": torch.randn(9, 2)}, None, torch.ones(9))
    weighted = LayerCalibration({"a": torch.randn(9, 2)}, "mean", weights=torch.ones(9))
    with pytest.raises(InputError, match="weights of the calibration alone"):
        with_more(weighted, {"a": torch.randn(9, 2)})


def test_what_was_not_flagged_is_told_from_what_nobody_selected() -> None:
    p = (1 + torch.arange(1000)) / 1001
    assert list(remarks_on_selection(p, 1000)) == []
    assert list(remarks_on_selection(p[-100:], 1000)) == []  # so few may well have none
    (remark,) = remarks_on_selection(p[p > 0.05], 1000)
    assert "none of 950 added inputs has a p-value of 0.05 or less, as about 48 should" in remark


def test_added_inputs_that_are_all_flagged_are_told() -> None:
    (remark,) = remarks_on_selection(torch.full((60,), 1 / 1001), 1000)
    assert remark.startswith("60 of 60 added inputs have a p-value of 0.05 or less, as about 3")


def test_inputs_that_are_in_the_calibration_already_are_known_again() -> None:
    generator = torch.Generator().manual_seed(0)
    known = {"a": 50 * torch.rand(3000, 2, generator=generator), "b": torch.zeros(3000, 2)}
    others = {"a": 50 * torch.rand(500, 2, generator=generator), "b": torch.zeros(500, 2)}
    again = {name: torch.cat([known[name][:100] + 1e-5, others[name][:100]]) for name in known}
    assert share_known(known, known) == pytest.approx(1, abs=0.01)
    assert share_known(known, again) == pytest.approx(0.5, abs=0.02)
    assert share_known(known, others) < 0.01
    tied = {name: torch.zeros(300, 2) for name in known}
    assert share_known(tied, tied) == 0  # such readings tell no input from another
