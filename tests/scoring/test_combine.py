"""z-scores, their equal-weight combination, and the default aggregation of recipe `bits`."""

import re

import numpy as np
import pytest
import torch
from scipy.stats import zscore as scipy_zscore

from nervecode.core import Codebook, CodingTrace, SoftCode
from nervecode.errors import InputError, NotReadyError
from nervecode.scoring import id_zscore_equal, zscore
from nervecode.scoring.code_length import CodeLengthScore
from nervecode.scoring.combine import within_reach
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.rarity import Rarity
from nervecode.scoring.readings import LayerReadings
from nervecode.scoring.tables import METHODS


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


def rarity_by_hand(known: np.ndarray, scores: np.ndarray) -> list[float]:
    """Bits of the p-value, one score at a time; above the 90 % quantile, of the exponential."""
    start = np.quantile(known, 0.9, method="lower")
    excess = np.mean([k - start for k in known if k > start])
    found = []
    for score in scores:
        p = (1 + sum(k >= score for k in known)) / (len(known) + 1)
        beyond = np.log2(10) + (score - start) / excess * np.log2(np.e)
        found.append(beyond if score > start else min(-np.log2(p), np.log2(10)))
    return found


def held_out_rarity_by_hand(known: np.ndarray, scores: np.ndarray) -> list[float]:
    """Rarity of each score among the known ones but that in its place."""
    return [rarity_by_hand(np.delete(known, i), scores[i : i + 1])[0] for i in range(len(known))]


def mean_z(known: np.ndarray, some: np.ndarray) -> np.ndarray:
    """(n, 2) means over the layers of (n, L, 2) readings, standardised by those of `known`."""
    return ((some - known.mean(0)) / known.std(0)).mean(1)


def held_out_mean_z(known: np.ndarray) -> np.ndarray:
    """The same of each row of `known`, standardised by the others."""
    rows = range(len(known))
    return np.array([mean_z(np.delete(known, i, 0), known[i : i + 1])[0] for i in rows])


def code_length(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """3/2 rarity of the mean z(B) over layers, plus that of the mean z(R); (n, L, 2) arrays."""
    means, others = mean_z(known, known), mean_z(known, new)
    b, r = (np.array(rarity_by_hand(means[:, part], others[:, part])) for part in (0, 1))
    return 1.5 * b + r


def held_out_code_length(known: np.ndarray) -> np.ndarray:
    """The same of the calibration inputs, each among the others."""
    means, alone = mean_z(known, known), held_out_mean_z(known)
    b, r = (np.array(held_out_rarity_by_hand(means[:, p], alone[:, p])) for p in (0, 1))
    return 1.5 * b + r


def read(layers: np.ndarray, *label: np.ndarray) -> LayerReadings:
    """Of (n, L, 2) readings, and the (n,) regrets and classes of a label code."""
    fitted = torch.from_numpy(layers)
    return LayerReadings(fitted[..., 0], fitted, *map(torch.from_numpy, label))


def test_code_length_by_hand() -> None:
    random = np.random.default_rng(0)
    known = random.normal(size=(30, 4, 2)) * [[1, 2], [3, 4], [5, 6], [7, 8]]
    new = random.normal(size=(9, 4, 2)) * 10
    score = CodeLengthScore.fit(read(known))
    np.testing.assert_allclose(score(read(new)), code_length(known, new), rtol=1e-9)
    expected = np.maximum(held_out_code_length(known), code_length(known, known))
    np.testing.assert_allclose(score.held_out(read(known)), expected, rtol=1e-9)


def given_class(
    known: np.ndarray, of_known: np.ndarray, new: np.ndarray, of_new: np.ndarray
) -> list[float]:
    """Each new score, standardised by its class, whose figures weigh n / (n + 20)."""
    found = []
    for score, k in zip(new, of_new, strict=True):
        same = known[of_known == k]
        weight = len(same) / (len(same) + 20)
        mean, deviation = (same.mean(), same.std()) if len(same) else (0.0, 0.0)
        centre = weight * mean + (1 - weight) * known.mean()
        found.append((score - centre) / (weight * deviation + (1 - weight) * known.std()))
    return found


def held_out_given_class(known: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> list[float]:
    """Each score, standardised by the others of its class."""
    found = []
    for i, (score, k) in enumerate(zip(scores, classes, strict=True)):
        others = np.delete(known, i), np.delete(classes, i)
        found += given_class(*others, np.array([score]), np.array([k]))
    return found


def test_a_label_code_adds_its_rarity_and_conditions_the_code_length_on_the_class() -> None:
    random = np.random.default_rng(1)
    known, new = random.normal(size=(40, 3, 2)), random.normal(size=(9, 3, 2))
    label, new_label = random.exponential(size=40), random.exponential(size=9)
    of_known, of_new = random.integers(4, size=40), random.integers(5, size=9)  # 4 is never seen
    of_new[0] = 4
    score = CodeLengthScore.fit(read(known, label, of_known))
    found = score(read(new, new_label, of_new))
    (b, r), (new_b, new_r) = mean_z(known, known).T, mean_z(known, new).T
    among_others = held_out_given_class(b, of_known, b)
    conditional = np.maximum(among_others, given_class(b, of_known, b, of_known))
    new_conditional = np.array(given_class(b, of_known, new_b, of_new))
    expected = (
        1.5 * np.array(rarity_by_hand(conditional, new_conditional))
        + rarity_by_hand(r, new_r)
        + rarity_by_hand(label, new_label)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    held_out = score.held_out(read(known, label, of_known))
    alone_b, alone_r = held_out_mean_z(known).T
    alone = np.array(held_out_given_class(b, of_known, alone_b))
    terms = [
        held_out_rarity_by_hand(*term)
        for term in ((conditional, alone), (r, alone_r), (label, label))
    ]
    as_new = score(read(known, label, of_known))
    expected = np.maximum(np.dot([1.5, 1, 1], terms), as_new.numpy())
    np.testing.assert_allclose(held_out, expected, rtol=1e-9)


def test_rarity_rises_with_the_score_and_has_no_upper_end() -> None:
    known = torch.from_numpy(np.random.default_rng(0).normal(size=200))
    scores = torch.linspace(-5, 50, 400, dtype=torch.float64)
    found = Rarity.of(known)(scores)
    assert (found.diff() >= 0).all()
    assert found[-1] > 40 > np.log2(201)  # a p-value alone would end at log2(n + 1)
    assert found[0] < 0.01


def test_rarity_of_exponential_scores_is_their_true_tail() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.empty(100_000, dtype=torch.float64).exponential_(generator=generator)
    scores = torch.tensor([0.5, 1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
    true = scores / np.log(2)  # -log2 of exp(-s)
    torch.testing.assert_close(Rarity.of(known)(scores), true, rtol=0.03, atol=0.02)


@pytest.mark.parametrize("n", [2, 3, 11, 12, 50])
def test_rarity_of_scores_among_the_others_by_hand(n: int) -> None:
    random = np.random.default_rng(n)
    known = random.normal(size=n).round(1 if n == 50 else 9)  # ties, too
    for scores in (known, known + random.normal(size=n), known[::-1] * 2):
        alone = torch.from_numpy(scores.copy())
        found = Rarity.of(torch.from_numpy(known)).held_out(torch.from_numpy(known), alone)
        for i, bits in enumerate(found.tolist()):
            expected = Rarity.of(torch.from_numpy(np.delete(known, i)))(alone[i : i + 1])
            assert bits == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["code_length", "fisher", "simes", "harmonic"])
def test_new_inputs_are_as_surprising_as_those_of_a_small_calibration_set(method: str) -> None:
    """At most alpha is flagged, and not much less; standardised on themselves they exceed it."""
    generator = torch.Generator().manual_seed(0)

    def drawn(n: int) -> dict[str, torch.Tensor]:
        classes = torch.randint(0, 10, (n,), generator=generator)
        spread = 1 + 0.3 * classes.unsqueeze(1)
        layers = {
            name: spread * torch.randn(n, 2, generator=generator) + 3 * classes.unsqueeze(1)
            for name in "abcd"
        }
        regret = torch.rand(n, generator=generator) ** 4
        return layers | {"head:label": torch.stack([regret, classes.float()], dim=1)}

    rates = []
    for _ in range(60):
        calibration = LayerCalibration(drawn(199), method)
        p = calibration.p_values(calibration.scores_of(drawn(2000)))
        rates.append((p <= 0.1).double().mean())
    rate, error = torch.stack(rates).mean(), torch.stack(rates).std() / len(rates) ** 0.5
    assert 0.085 < rate < 0.1 + 2 * error


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.1), (39, 0.05)])
def test_layers_that_know_nothing_of_one_another_keep_alpha(n: int, alpha: float) -> None:
    """What stands out in one layer alone is not to widen the scale that it is measured by."""
    generator, rates = torch.Generator().manual_seed(0), []
    for _ in range(150):
        layers = torch.randn(n + 200, 6, 2, generator=generator).exp()
        known, new = ({str(i): p[:, i] for i in range(6)} for p in (layers[:n], layers[n:]))
        calibration = LayerCalibration(known, "code_length")
        p = calibration.p_values(calibration.scores_of(new))
        rates.append((p <= alpha).double().mean())
    rate, error = torch.stack(rates).mean(), torch.stack(rates).std() / len(rates) ** 0.5
    assert 0.4 * alpha < rate < alpha + 2 * error


@pytest.mark.slow
@pytest.mark.parametrize("far", [1e2, 1e5, 1e12])
@pytest.mark.parametrize(("n", "share"), [(50, 0.02), (100, 0.05), (400, 0.01)])
def test_a_few_broken_inputs_among_others_keep_alpha(n: int, share: float, far: float) -> None:
    """They are not to be all that the scale of the others is made of."""
    generator, rates = torch.Generator().manual_seed(0), []
    for _ in range(40):
        layers = torch.randn(n + 200, 3, 2, generator=generator)
        layers[torch.rand(n + 200, generator=generator) < share] += far
        known, new = ({str(i): p[:, i] for i in range(3)} for p in (layers[:n], layers[n:]))
        calibration = LayerCalibration(known, "code_length")
        p = calibration.p_values(calibration.scores_of(new))
        rates.append((p <= 0.1).double().mean())
    rate, error = torch.stack(rates).mean(), torch.stack(rates).std() / len(rates) ** 0.5
    assert 0.05 < rate < 0.1 + 2 * error


def test_the_label_alone_is_a_score() -> None:
    generator = torch.Generator().manual_seed(0)
    regrets = torch.rand(2, 400, generator=generator) ** 3
    classes = torch.arange(400) % 3
    known, new = ({"head:label": torch.stack([r, classes], 1)} for r in regrets)
    calibration = LayerCalibration(known, "code_length")
    scores = calibration.scores_of(new)
    assert scores.isfinite().all()
    raised = regrets[0].double() * (1 + 1e-4)  # by what rounding can be
    assert torch.equal(scores.argsort(), Rarity.of(raised)(regrets[1]).argsort())
    assert 0.02 < (calibration.p_values(scores) <= 0.05).double().mean() < 0.09


def test_what_is_within_reach_is_left_as_it_is() -> None:
    scores = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(within_reach(scores), scores)
    scores[0] = 1e9
    assert torch.equal(within_reach(scores)[1:], scores[1:])
    assert (within_reach(scores)[0] < 60).all()
    rare = torch.zeros(9)  # whose middle half is one value
    rare[0] = 1e9
    assert torch.equal(within_reach(rare), rare.double())


def test_common_values_are_no_surprise_beside_few_others() -> None:
    """Scored among the others, a value that nearly all have ties with itself in a new input."""
    known = torch.zeros(100, 2)
    known[:2] = 1
    calibration = LayerCalibration({"0": known, "1": known.roll(2, 0)}, "code_length")
    new = {name: torch.zeros(5, 2) for name in "01"}
    assert (calibration.p_values(calibration.scores_of(new)) == 1).all()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_rarity_of_few_scores_stays_of_the_size_of_their_spread(n: int) -> None:
    """The tenth of so few is none: still the tail begins below one of them."""
    known = torch.linspace(0, 1, n, dtype=torch.float64)
    assert 3 < Rarity.of(known)(torch.tensor([2.0])) < 20 * n


def test_rarity_of_a_constant_is_finite() -> None:
    found = Rarity.of(torch.ones(20))(torch.tensor([0.0, 1.0, 2.0]))
    assert found.isfinite().all()
    assert found[2] > found[1]
    assert Rarity.of(torch.ones(20)).held_out(*[torch.ones(20)] * 2).tolist() == [0.0] * 20


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
    raised = known.astype(float) + 1e-5 * (1 + np.abs(known.astype(float)))  # by rounding
    expected = code_length(raised, new.astype(float))
    ranks = np.maximum(held_out_code_length(raised), code_length(raised, raised))
    np.testing.assert_allclose(found.surprise, expected, rtol=1e-5)
    np.testing.assert_allclose(found.percentile, [(ranks <= s).mean() for s in expected])
    np.testing.assert_allclose(found.p_value, [(1 + (ranks >= s).sum()) / 31 for s in expected])
    assert found.method == "code_length"


def test_calibration_errors() -> None:
    pair = torch.randn(5, 2)
    with pytest.raises(InputError, match="calibrate method: found 'sum'"):
        LayerCalibration({"a": pair}, "sum")
    with pytest.raises(NotReadyError, match="code_length needs fitted codes"):
        LayerCalibration({"a": pair[:, :1]}, "code_length")
    with pytest.raises(InputError, match="surprise of layer 'b': found NaN or infinity in every"):
        LayerCalibration({"a": pair, "b": torch.full((5, 2), torch.nan)}, "code_length")


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_not_finite_are_left_out_of_a_calibration(method: str) -> None:
    random = torch.Generator().manual_seed(0)
    known = {name: torch.randn(200, 2, generator=random) for name in ("a", "b", "head:label")}
    known["head:label"][:, 1] = torch.arange(200) % 3
    new = {name: pair[:6].clone() + 0.1 for name, pair in known.items()}
    new["head:label"][:, 1] = 0
    plain = LayerCalibration(known, method)
    assert plain.remarks() == []

    odd = {name: torch.cat([pair[:1], pair]) for name, pair in known.items()}
    odd["b"][0, 0] = torch.inf
    calibration = LayerCalibration(odd, method)
    assert calibration.num_samples == 200 and calibration.smallest_alpha == 1 / 201
    assert calibration.remarks() == ["1 of 201 inputs have NaN or infinity, and are left out"]
    assert torch.equal(calibration.scores_of(new), plain.scores_of(new))
    assert calibration.scores_of(odd)[0] == torch.inf

    new["a"][3, 1] = torch.nan
    assert plain.scores_of(new)[3] == torch.inf
    assert plain.scores_of(new)[[0, 1, 2, 4, 5]].isfinite().all()


@pytest.mark.parametrize(("n", "told"), [(16, True), (98, True), (99, False)])
def test_too_few_inputs_for_an_alpha_are_told(n: int, told: bool) -> None:
    remarks = LayerCalibration({"a": torch.randn(n, 2)}, "mean").remarks()
    assert len(remarks) == told
    if n == 16:
        assert remarks == [
            "16 inputs give no p-value below 1/17 = 0.059, so that a smaller alpha flags nothing; "
            "99 serve alpha 0.01"
        ]


def test_an_input_that_is_not_finite_gets_the_smallest_p_value() -> None:
    calibration = LayerCalibration({"a": torch.randn(19, 2)}, "code_length")
    rows = torch.tensor([[0.1, 0.2], [torch.nan, 0.0], [torch.inf, 0.0], [0.1, torch.nan]])
    found = calibration.score({"a": trace(rows)})
    assert found.p_value[0] > 0.05
    assert found.p_value[1:].tolist() == [0.05, 0.05, 0.05]
    assert found.percentile[1:].tolist() == [1, 1, 1]
    assert found.valid.all()
    assert found.flag(0.05).tolist() == [False, True, True, True]
    assert "layer 'a': NaN or infinity in 2 of 4 inputs" in found.remark
    alone = calibration.score({"a": trace(rows[:1])})
    assert torch.equal(alone.p_value, found.p_value[:1])
    assert alone.remark == ""


@pytest.mark.parametrize(
    ("traces", "text"),
    [
        ({"a": 4}, "layer 'b' was calibrated and did not run"),
        ({}, "layer 'a' was calibrated and did not run"),
        ({"a": 4, "b": 3}, "layer 'b' has 3 inputs, layer 'a' 4"),
    ],
)
def test_other_layers_than_were_calibrated_are_not_valid(traces: dict, text: str) -> None:
    calibration = LayerCalibration({n: torch.randn(9, 2) for n in "ab"}, "code_length")
    given = {name: trace(torch.randn(number, 2)) for name, number in traces.items()}
    found = calibration.score(given, size=4)
    assert text in found.remark
    assert not found.valid.any()
    for numbers in (found.p_value, found.percentile, found.surprise):
        assert numbers.shape == (4,)
        assert numbers.isnan().all()
    assert found.flag(0.5).all()
    assert found.layers == ("a", "b")
    if "a" in given:
        assert torch.equal(found.layer("a"), given["a"].surprise)
    assert found.layer("b").isnan().all()


def test_layers_that_were_not_calibrated_are_left_out() -> None:
    calibration = LayerCalibration({"a": torch.randn(9, 2)}, "code_length")
    rows = trace(torch.randn(4, 2))
    found = calibration.score({"a": rows, "a#2": trace(torch.randn(4, 2))})
    assert torch.equal(found.p_value, calibration.score({"a": rows}).p_value)
    assert found.layers == ("a",)


def test_no_flag_where_calibration_is_too_small_for_its_alpha() -> None:
    found = LayerCalibration({"a": torch.randn(9, 2)}, "mean").score(
        {"a": trace(torch.randn(4, 2))}
    )
    found.flag(0.1)
    with pytest.raises(
        InputError, match=r"flag alpha: found 0\.01, allowed: 0\.1 to below 1, as there are 9"
    ):
        found.flag()
    for alpha in (1, 0, "x", None, [0.1], float("nan"), torch.tensor([0.1, 0.2])):
        words = f"flag alpha: found {re.escape(repr(alpha))}, allowed: 0.1 to below 1"
        with pytest.raises(InputError, match=words):
            found.flag(alpha)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"rate: found .* allowed: between 0 and 1"):
            found.flag(alpha, confidence=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="confidence: found 'x', allowed: between 0 and 1"):
        found.flag(0.5, confidence="x")  # type: ignore[arg-type]


def test_the_smallest_alpha_that_is_told_will_do() -> None:
    found = LayerCalibration({"a": torch.randn(300, 2)}, "mean").score(
        {"a": trace(torch.randn(4, 2))}
    )
    with pytest.raises(InputError, match=r"allowed: 0\.00333 to below 1, as there are 300"):
        found.flag(0.00332)
    found.flag(0.00333)


@pytest.mark.parametrize("method", METHODS)
def test_a_score_stays_on_its_device_and_never_waits_for_it(method: str) -> None:
    """On the meta device there are no values: whoever looked at one would fail."""
    calibration = LayerCalibration({n: torch.rand(9, 2) for n in ("a", "h:label")}, method)
    code = SoftCode(*(torch.empty(4, 3, device="meta") for _ in range(2)), *[torch.empty(3)] * 2)
    given = {
        name: CodingTrace(
            *(torch.empty(4, device="meta"), code, torch.empty(4, 5, device="meta")),
            regret=torch.empty(4, device="meta"),
        )
        for name in ("a", "h:label")
    }
    found = calibration.score(given)
    assert {t.device.type for t in (found.p_value, found.surprise, found.flag(0.5))} == {"meta"}
