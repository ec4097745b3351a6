"""z-scores, their equal-weight combination, and the default aggregation of recipe `bits`."""

import numpy as np
import pytest
import torch
from scipy.stats import zscore as scipy_zscore

from nervecode.core import Codebook, CodingTrace
from nervecode.errors import InputError, NotReadyError
from nervecode.scoring import id_zscore_equal, zscore
from nervecode.scoring.code_length import CodeLengthScore
from nervecode.scoring.layer_calibration import LayerCalibration


def test_zscore_of_the_calibration_data_is_scipys() -> None:
    x = torch.randn(50, 3, dtype=torch.float64) * 4 + 2
    np.testing.assert_allclose(zscore(x, x), scipy_zscore(x.numpy(), axis=0), rtol=1e-9)


def test_a_constant_score_is_centred_and_not_scaled() -> None:
    assert zscore(torch.full((9,), 0.1), torch.tensor([0.1, 2.1])).tolist() == pytest.approx([0, 2])


def test_id_zscore_equal_by_hand() -> None:
    random = np.random.default_rng(0)
    known = {name: random.normal(size=40) * scale for name, scale in (("e", 1), ("m", 1000))}
    new = {name: random.normal(size=7) * 10 for name in known}
    expected = np.mean([(new[n] - known[n].mean()) / known[n].std() for n in known], axis=0)
    found = id_zscore_equal(
        {n: torch.from_numpy(v) for n, v in known.items()},
        {n: torch.from_numpy(v) for n, v in new.items()},
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "c"]])
def test_id_zscore_equal_needs_the_same_names(names: list[str]) -> None:
    with pytest.raises(InputError, match="allowed: the same names, at least one"):
        id_zscore_equal({n: torch.ones(3) for n in "ab"}, {n: torch.ones(3) for n in names})


def code_length(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """mean over layers of z(B), plus z of the summed R; (n, L, 2) arrays."""
    bits, regret = known[..., 0], known[..., 1].sum(1)
    lengths = ((new[..., 0] - bits.mean(0)) / bits.std(0)).mean(1)
    return lengths + (new[..., 1].sum(1) - regret.mean()) / regret.std()


def test_code_length_by_hand() -> None:
    random = np.random.default_rng(0)
    known = random.normal(size=(30, 4, 2)) * [[1, 2], [3, 4], [5, 6], [7, 8]]
    new = random.normal(size=(9, 4, 2)) * 10
    score = CodeLengthScore(*torch.from_numpy(known).unbind(2))
    np.testing.assert_allclose(
        score(*torch.from_numpy(new).unbind(2)), code_length(known, new), rtol=1e-9
    )


def trace(pair: torch.Tensor) -> CodingTrace:
    code = Codebook(2, 1)(torch.zeros(len(pair), 1))
    return CodingTrace(pair[:, 0], code, pair, regret=pair[:, 1])


def test_calibration_over_layers_gives_percentile_and_p_value() -> None:
    random = np.random.default_rng(0)
    known = random.normal(size=(30, 2, 2)).astype("float32")
    new = random.normal(size=(9, 2, 2)).astype("float32")
    names = ("first", "second")
    calibration = LayerCalibration(
        {name: torch.from_numpy(known[:, i]) for i, name in enumerate(names)}, "code_length"
    )
    # The order of the layers is that of calibration, whatever the order of the traces.
    found = calibration.score(
        {name: trace(torch.from_numpy(new[:, i])) for i, name in reversed([*enumerate(names)])}
    )
    expected = code_length(known.astype(float), new.astype(float))
    ranks = code_length(known.astype(float), known.astype(float))
    np.testing.assert_allclose(found.surprise, expected, rtol=1e-5)
    np.testing.assert_allclose(found.percentile, [100 * (ranks <= s).mean() for s in expected])
    np.testing.assert_allclose(found.p_value, [(1 + (ranks >= s).sum()) / 31 for s in expected])
    assert found.method == "code_length"


def test_calibration_errors() -> None:
    pair = torch.randn(5, 2)
    with pytest.raises(InputError, match="calibrate method: found 'sum'"):
        LayerCalibration({"a": pair}, "sum")
    with pytest.raises(NotReadyError, match="code_length needs fitted codes"):
        LayerCalibration({"a": pair[:, :1]}, "code_length")
    calibration = LayerCalibration({"a": pair}, "code_length")
    with pytest.raises(InputError, match=r"layers: found \['b'\], calibrated were \['a'\]"):
        calibration.score({"b": trace(pair)})
    with pytest.raises(InputError, match="surprise of layer 'a': found NaN"):
        calibration.score({"a": trace(torch.full((2, 2), torch.nan))})
