"""The percentile calibrator: known answers, files, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nervecode.errors import ArtifactError, InputError, NotReadyError
from nervecode.scoring import EmpiricalPercentileCalibrator, conformal_p_values
from nervecode.scoring.percentiles import Steps


def fitted(quantiles: tuple[float, ...] = (0.95, 0.5)) -> EmpiricalPercentileCalibrator:
    calibrator = EmpiricalPercentileCalibrator(quantiles)
    calibrator.fit(torch.arange(100).flip(0).float(), aggregation="mean")
    return calibrator


def test_known_answers() -> None:
    calibrator = fitted()
    scores = torch.tensor([[-1.0, 0.0], [49.0, 200.0]])
    np.testing.assert_allclose(calibrator.percentiles(scores), [[0, 0.01], [0.5, 1]])
    np.testing.assert_allclose(
        calibrator.p_values(scores), np.array([[101, 101], [52, 1]]) / 101, rtol=1e-12
    )
    assert calibrator.threshold_for() == calibrator.threshold_for(0.95) == 95.0
    assert calibrator.threshold_for(0.5) == 50.0
    assert calibrator.is_ood(torch.tensor([95.0, 95.5])).tolist() == [False, True]
    assert calibrator.is_ood(torch.tensor([50.0, 50.5]), 0.5).tolist() == [False, True]
    assert calibrator.state is not None
    assert calibrator.state.num_samples == 100


@pytest.mark.parametrize("n", [2, 7, 60])
def test_p_value_and_percentile_of_one_look_up_are_those_of_the_page(n: int) -> None:
    random = np.random.default_rng(n)
    known = np.sort(random.integers(-9, 9, size=n) / 4)  # with ties, and 0 among them
    scores = np.concatenate([known, random.normal(size=20), [0.0, -0.0, np.inf, -np.inf, 1e300]])
    steps = Steps.p_value_and_percentile(torch.from_numpy(known))
    p_value, percentile = steps(torch.from_numpy(scores).expand(2, -1))
    np.testing.assert_array_equal(p_value, [(1 + (known >= s).sum()) / (n + 1) for s in scores])
    np.testing.assert_array_equal(percentile, [(known <= s).sum() / n for s in scores])


def test_ties_count_against_the_input() -> None:
    """A score equal to all of calibration is no surprise at all."""
    p = conformal_p_values(torch.ones(9), torch.tensor([1.0, 1.1]))
    np.testing.assert_allclose(p, [1.0, 0.1])


def test_scores_with_a_gradient_and_on_half_precision_are_taken() -> None:
    scores = torch.randn(20, requires_grad=True)
    calibrator = EmpiricalPercentileCalibrator()
    assert not calibrator.fit(scores).scores.requires_grad
    assert calibrator.percentiles(scores.detach().bfloat16()).dtype == torch.float64


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    calibrator = fitted((0.99, 0.05, 1 / 3))
    calibrator.save(path)
    twin = EmpiricalPercentileCalibrator.load(path)
    scores = torch.linspace(-5, 110, 77)
    assert torch.equal(twin.percentiles(scores), calibrator.percentiles(scores))
    assert twin.state.thresholds == calibrator.state.thresholds
    assert twin.threshold_quantiles == (0.99, 0.05, 1 / 3)
    assert twin.state.aggregation == "mean"


def test_state_dict_round_trip() -> None:
    calibrator, twin = fitted(), EmpiricalPercentileCalibrator()
    twin.load_state_dict(calibrator.state_dict())
    assert twin.state.thresholds == calibrator.state.thresholds
    assert torch.equal(twin.state.scores, calibrator.state.scores)


def test_missing_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    with pytest.raises(ArtifactError, match="not a readable calibration file"):
        EmpiricalPercentileCalibrator.load(path)
    fitted().save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 50):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=str(path)):
            EmpiricalPercentileCalibrator.load(path)
    save_file({"other": torch.zeros(3)}, path)
    with pytest.raises(ArtifactError, match="not a readable calibration file"):
        EmpiricalPercentileCalibrator.load(path)


def test_scores_that_are_not_finite_are_as_surprising_as_any() -> None:
    calibrator = fitted()
    odd = torch.tensor([torch.nan, torch.inf, 3.0, -torch.inf])
    np.testing.assert_allclose(calibrator.percentiles(odd), [1, 1, 0.04, 0])
    np.testing.assert_allclose(calibrator.p_values(odd), np.array([1, 1, 98, 101]) / 101)
    assert calibrator.is_ood(odd).tolist() == [True, True, False, False]


def test_calibration_scores_that_are_not_finite_are_left_out_with_a_warning() -> None:
    scores = torch.arange(100.0)
    calibrator = EmpiricalPercentileCalibrator()
    with pytest.warns(UserWarning, match="calibration scores: 2 of 102 are NaN or infinite, and l"):
        state = calibrator.fit(torch.cat([scores, torch.tensor([torch.nan, torch.inf])]))
    assert torch.equal(state.scores, scores.double())
    assert state.smallest_alpha == 1 / 101
    with (
        pytest.warns(UserWarning, match="1 of 2 are NaN"),
        pytest.raises(InputError, match="found 1, allowed: at least 2"),
    ):
        calibrator.fit(torch.tensor([1.0, torch.nan]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: EmpiricalPercentileCalibrator(()), InputError, r"threshold_quantiles: found \(\)"),
        (lambda: EmpiricalPercentileCalibrator((1.0,)), InputError, r"found \(1.0,\), allowed: "),
        (lambda: EmpiricalPercentileCalibrator((95,)), InputError, "numbers between 0 and 1"),
        (lambda: fitted().fit(torch.ones(1)), InputError, "found 1, allowed: at least 2"),
        (lambda: fitted().fit(torch.ones(2, 2)), InputError, r"shape \(2, 2\), allowed: \(n,\)"),
        (lambda: fitted().threshold_for(0.9), InputError, "found 0.9, allowed: 0.95, 0.5"),
        (
            lambda: EmpiricalPercentileCalibrator().percentiles(torch.ones(2)),
            NotReadyError,
            r"call fit\(scores\) first",
        ),
        (lambda: EmpiricalPercentileCalibrator().threshold_for(), NotReadyError, "seen no scores"),
    ],
)
def test_errors_say_what_is_allowed(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
