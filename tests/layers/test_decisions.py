"""calibrate: by predicted class, with weights, and in addition; flag with a confidence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

import nervecode
from nervecode.core.call import UNKNOWN_CALL
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import WrappedModel
from nervecode.scoring import conformal_p_values
from nervecode.scoring.mondrian import OWN

Batches = list[tuple[Tensor, Tensor]]


def data(seed: int, counts: tuple[int, ...] = (260, 260, 40)) -> Batches:
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(y), 8, generator=torch.Generator().manual_seed(seed))
    return list(zip((noise + 4 * nn.functional.one_hot(y, 8)).split(80), y.split(80), strict=True))


def fitted(*, label_code: bool = True) -> WrappedModel:
    model = nn.Sequential(nn.Linear(8, 3, bias=False))
    model[0].weight.data = torch.eye(3, 8)
    return nervecode.wrap(model, "all_linear").fit(data(0), label_code=label_code)


@pytest.mark.parametrize("label_code", [True, False])
@pytest.mark.parametrize("twin", [False, True])
def test_p_values_within_the_predicted_class(label_code: bool, twin: bool, tmp_path: Path) -> None:
    """From the label code or from the model's output, and from a file too."""
    wrapped = fitted(label_code=label_code)
    with pytest.warns(
        UserWarning, match="predicted as class 2, counted from 0, are compared with all"
    ):
        wrapped.calibrate(data(1), by_class=True)
    if twin:
        wrapped.save(tmp_path / "codes.safetensors")
        wrapped = nervecode.load(tmp_path / "codes.safetensors", wrapped.unwrap())
    x, known = torch.cat([x for x, _ in data(2)]), torch.cat([x for x, _ in data(1)])
    output, surprise = wrapped.score(x)
    predicted, classes = output.argmax(1), wrapped.model(known).argmax(1)
    scores = wrapped.score(known)[1].score
    expected = torch.stack(
        [
            conformal_p_values(scores if k == 2 else scores[classes == k], score)
            for k, score in zip(predicted.tolist(), surprise.score, strict=True)
        ]
    )
    # float32 scores may tie where the calibrated float64 ones do not
    assert (surprise.p_value - expected).abs().max() <= 2 / OWN
    assert torch.equal(surprise.pooled, predicted == 2)
    assert surprise.valid.all()


def test_a_class_has_its_own_share_of_false_alarms() -> None:
    wrapped = fitted().calibrate(data(1, (400, 400, 400)), by_class=True)
    output, surprise = wrapped.score(torch.cat([x for x, _ in data(2, (2000, 2000, 2000))]))
    for k in range(3):
        rate = surprise.flag(0.05)[output.argmax(1) == k].double().mean()
        assert 0.02 < rate < 0.09


def test_traces_tell_the_classes_of_their_call() -> None:
    wrapped = fitted(label_code=False).calibrate(data(1, (120, 120, 120)), by_class=True)
    x = data(2)[0][0]
    _, traces = wrapped.forward_with_trace(x)
    found = wrapped.aggregate(traces)
    assert found.valid.all()
    assert torch.equal(found.p_value, wrapped.score(x)[1].p_value)
    strangers = {name: replace(trace, call=UNKNOWN_CALL) for name, trace in traces.items()}
    with pytest.warns(UserWarning, match="the predicted classes are not known"):
        found = wrapped.aggregate(strangers)
    assert not found.valid.any() and found.flag().all() and found.pooled.all()


def test_a_model_without_classes_has_none() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Unflatten(1, (3, 1)))
    wrapped = nervecode.wrap(model, "all_linear")
    with pytest.raises(InputError, match="by_class: found no predicted classes, allowed: codes"):
        wrapped.calibrate(data(1), by_class=True)
    assert wrapped.calibration is None


def test_flag_with_confidence() -> None:
    wrapped = fitted().calibrate(data(1, (150, 150, 150)))
    x = torch.cat([x for x, _ in data(2)])
    surprise = wrapped.score(x)[1]
    ranks = torch.arange(1, 451).numpy()
    k = ranks[beta.ppf(0.9, ranks, 451 - ranks) <= 0.05].max()
    expected = surprise.p_value <= k / 451
    assert torch.equal(surprise.flag(0.05, confidence=0.9), expected)
    assert surprise.flag(0.05).sum() >= expected.sum()
    smallest = beta.ppf(0.95, 1, 450)
    with pytest.raises(InputError, match=rf"found 0.001 at .* allowed: {smallest:.3g} or more"):
        surprise.flag(0.001, confidence=0.95)
    with pytest.raises(InputError, match="confidence: found 1, allowed: between 0 and 1"):
        surprise.flag(0.05, confidence=1)


def test_flag_with_confidence_within_classes() -> None:
    wrapped = fitted().calibrate(data(1, (100, 400, 300)), by_class=True)
    output, surprise = wrapped.score(torch.cat([x for x, _ in data(2, (300, 300, 300))]))
    sizes = wrapped.calibration.sizes
    assert sizes[0] == sum(sizes[1:]) == 800
    expected = torch.zeros(len(output), dtype=torch.bool)
    for k, n in enumerate(sizes[1:]):
        rank = max(r for r in range(1, n) if beta.ppf(0.95, r, n + 1 - r) <= 0.06)
        expected |= (output.argmax(1) == k) & (surprise.p_value <= rank / (n + 1))
    assert torch.equal(surprise.flag(0.06, confidence=0.95), expected)
    few = min(sizes)
    with pytest.raises(InputError, match=f"as there are {few} calibration inputs"):
        surprise.flag(0.01, confidence=0.95)
    with pytest.raises(InputError, match=f"as there are {few} calibration inputs of a class"):
        surprise.flag(0.009)


def test_weights(tmp_path: Path) -> None:
    """Batches are given as the loader gave them; equal weights change nothing."""
    wrapped, x = fitted(), data(2)[0][0]
    plain = wrapped.calibrate(data(1)).score(x)[1]
    with pytest.warns(UserWarning, match="weights leave 560 of 560 inputs in effect"):
        wrapped.calibrate(data(1), weights=lambda batch: torch.full((len(batch[1]),), 0.5))
    same = wrapped.score(x)[1]
    torch.testing.assert_close(same.p_value, plain.p_value, rtol=1e-12, atol=0)
    with pytest.raises(InputError, match=r"confidence: found 0\.95, allowed: None for weighted"):
        same.flag(0.05, confidence=0.95)
    with pytest.warns(UserWarning, match="weights leave [0-9]+ of 560 inputs in effect, and no p"):
        wrapped.calibrate(data(1), weights=lambda batch: 1.0 + 30 * (batch[1] == 2))
    found = wrapped.score(x)[1]
    assert not torch.equal(found.p_value, plain.p_value)
    wrapped.save(tmp_path / "codes.safetensors")
    twin = nervecode.load(tmp_path / "codes.safetensors", wrapped.unwrap())
    assert torch.equal(twin.score(x)[1].p_value, found.p_value)
    with pytest.raises(InputError, match="as there are the weighted calibration inputs"):
        found.flag(0.001)
    with pytest.raises(
        InputError, match=r"weights: found shape \(1,\) in batch 0, allowed: \(80,\)"
    ):
        fitted().calibrate(data(1), weights=lambda batch: torch.ones(1)[: len(batch)])
    for given, told in (
        (1.0, r"shape \(\) in batch 0, allowed: \(80,\), a weight for each input"),
        (None, r"NoneType in batch 0, allowed: \(80,\) numbers"),
        (["x"], r"list in batch 0, allowed: \(80,\) numbers"),
    ):
        with pytest.raises(InputError, match=f"calibrate weights: found {told}"):
            fitted().calibrate(data(1), weights=lambda batch, given=given: given)
    with pytest.raises(InputError, match="weights: found Tensor, allowed: a function of a batch"):
        fitted().calibrate(data(1), weights=torch.ones(9))


def test_added_inputs_calibrate_with_those_before() -> None:
    wrapped, x = fitted(), data(2)[0][0]
    wrapped.calibrate(data(1)).calibrate(data(3), add=True)
    whole = fitted().calibrate([*data(1), *data(3)])
    assert wrapped.calibration.num_samples == 1120
    assert torch.equal(wrapped.score(x)[1].p_value, whole.score(x)[1].p_value)


def test_what_was_not_flagged_is_noticed_when_added() -> None:
    wrapped = fitted().calibrate(data(1))
    kept = [(x[~wrapped.score(x)[1].flag(0.05)], y[:0]) for x, y in data(3)]
    with pytest.warns(UserWarning, match="add: none of .* were flagged inputs left out"):
        wrapped.calibrate([x for x, _ in kept], add=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted().calibrate(data(1)).calibrate(data(3), add=True)


@pytest.mark.parametrize("by_class", [False, True])
def test_an_exact_calibration_goes_with_the_codes(by_class: bool, tmp_path: Path) -> None:
    """Into a file, a state dict and a graph; what is added ranks on the same scale."""
    wrapped, x = fitted(), data(2)[0][0]
    jackknife = fitted().calibrate(data(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with too few inputs of their own
        wrapped.calibrate(data(1), exact=True, by_class=by_class)
    assert wrapped.calibration.exact and not jackknife.calibration.exact
    assert wrapped.calibration.num_samples == jackknife.calibration.num_samples // 2 == 280
    found = wrapped.score(x)[1]
    wrapped.save(tmp_path / "codes.safetensors")
    twins = [nervecode.load(tmp_path / "codes.safetensors", fitted().unwrap()), fitted()]
    twins[1].load_state_dict(wrapped.state_dict())
    for twin in twins:
        assert twin.calibration.exact
        again = twin.score(x)[1]
        assert torch.equal(again.score, found.score)
        assert torch.equal(again.p_value, found.p_value)
    wrapped.export(tmp_path / "graph.pt2", x)
    graph = torch.export.load(tmp_path / "graph.pt2").module()
    given = graph(input=x, alpha=torch.tensor(0.05, dtype=torch.float64))
    assert (given["p_value"] == found.p_value).double().mean() > 0.9  # but at ties
    assert (given["p_value"] - found.p_value).abs().max() <= 2 / OWN
    wrapped.calibrate(data(3), add=True)
    assert torch.equal(wrapped.score(x)[1].score, found.score)
    assert wrapped.calibration.num_samples == 280 + 560


def test_readings_of_two_parts_calibrate_exactly() -> None:
    wrapped, x = fitted().calibrate(data(1), exact=True), data(2)[0][0]
    known = wrapped.calibration
    again = fitted()
    again.set_calibration(known.layers, standard=known.standard)
    assert torch.equal(again.score(x)[1].p_value, wrapped.score(x)[1].p_value)


def test_what_cannot_be_added_leaves_the_calibration() -> None:
    wrapped = fitted()
    with pytest.raises(NotReadyError, match="add: nothing to add to; call calibrate"):
        wrapped.calibrate(data(1), add=True)
    before = wrapped.calibrate(data(1)).calibration
    with pytest.raises(InputError, match="add, method: found 'max', allowed: 'code_length'"):
        wrapped.calibrate(data(3), add=True, method="max")
    with pytest.raises(InputError, match="add, by_class: found True, allowed: False as before"):
        wrapped.calibrate(data(3), add=True, by_class=True)
    with pytest.raises(InputError, match="add, exact: found True, allowed: False as before"):
        wrapped.calibrate(data(3), add=True, exact=True)
    with pytest.raises(InputError, match="add: weights of the further inputs alone"):
        wrapped.calibrate(data(3), add=True, weights=lambda batch: torch.ones(len(batch[1])))
    wrapped.model[0].weight.data.mul_(1)
    with torch.no_grad():
        wrapped.model[0].weight.mul_(2)
    with pytest.raises(NotReadyError, match="add: the model has other weights"):
        wrapped.calibrate(data(3), add=True)
    assert wrapped.calibration is before


def test_another_default_device_changes_nothing() -> None:
    """As `torch.set_default_device("cuda")`; what is made on "meta" would have no values."""
    plain, wrapped = fitted(), fitted()
    plain.calibrate(data(1))
    batches = data(1)
    x = batches[0][0]
    with torch.device("meta"):
        wrapped.calibrate(batches)
        told = wrapped.score(x)[1]
        assert told.flag(0.2, confidence=0.9).shape == (len(x),)
    assert torch.equal(told.p_value, plain.score(x)[1].p_value)


X = torch.randn(200, 6, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda w: w.calibrate([X], exact="false"),
            "calibrate exact: found 'false', allowed: True",
        ),
        (lambda w: w.calibrate([X], by_class=1), "calibrate by_class: found 1, allowed: True or"),
        (lambda w: w.calibrate([X], add=None), "calibrate add: found None, allowed: True or Fal"),
        (lambda w: w.calibrate([X], call=3), "calibrate call: found int, allowed: a function"),
        (lambda w: w.fit([X], labels=3), "fit labels: found int, allowed: .* a key of it or No"),
        (lambda w: w.fit([X], label_code="a"), "label_code: found 'a', allowed: True or False"),
        (lambda w: w.fit([X], by_position="a"), "by_position: found 'a', allowed: True or False"),
        (lambda w: w.fit([X], rank="a"), "rank: found 'a', allowed: a whole number, at least 1"),
        (lambda w: w.fit([X], rank=2.5), "rank: found 2.5, allowed: a whole number, at least 1"),
        (lambda w: w.fit([X], codes_per_class=True), "codes_per_class: found True, allowed: a wh"),
        (lambda w: w.fit([X], num_classes="a"), "num_classes: found 'a', allowed: a whole num"),
        (lambda w: w.fit([X], length_power="a"), "length_power: found 'a', allowed: 0 to 1"),
        (lambda w: w.fit([X], reduce=["mean"]), r"reduce: found \['mean'\]; "),
        (lambda w: w.export("m.pt2", X, metadata="run 7"), "export metadata: found str, allowed"),
    ],
)
def test_options_of_another_kind_are_named(ask: Callable[[Any], Any], words: str) -> None:
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    wrapped = nervecode.wrap(model).fit([(X, torch.arange(200) % 3)]).calibrate([X + 0.1])
    with pytest.raises(InputError, match=words):
        ask(wrapped)
    assert wrapped.score(X)[1].valid.all()  # as before
