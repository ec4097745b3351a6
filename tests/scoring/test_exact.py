"""Exact calibration: the theorem of conformal p-values, for any law of the readings."""

import math

import pytest
import torch

from nervecode.errors import InputError
from nervecode.scoring import made_exact, with_more
from nervecode.scoring.growth import remarks_on_addition
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.readings import LayerReadings
from nervecode.scoring.tables import METHODS, Tables

METHOD = "code_length"


def clustered(n: int, random: torch.Generator) -> dict[str, torch.Tensor]:
    """Two layers; the readings of an input lie in one of three tight clusters of 75, 20 and 5 %."""
    which = torch.multinomial(torch.tensor([0.75, 0.2, 0.05]), n, True, generator=random)
    centres = torch.tensor([0.0, 1.0, 10.0])[which, None]
    return {name: centres + 1e-3 * torch.randn(n, 2, generator=random) for name in ("a", "b")}


def labelled(n: int, seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (n, 1), generator=random)
    head = torch.cat([torch.rand(n, 1, generator=random), classes], dim=1)
    return {"a": torch.randn(n, 2, generator=random), "head:label": head}


def false_alarms(alpha: float, exact: bool) -> tuple[float, float]:
    """Mean and standard error over calibration sets, at which new inputs have p <= alpha."""
    random, rates = torch.Generator().manual_seed(3), []
    for _ in range(300):
        calibration = LayerCalibration(clustered(60, random), "code_length")
        calibration = made_exact(calibration) if exact else calibration
        p = calibration.p_values(calibration.scores_of(clustered(100, random)))
        rates.append(float((p <= alpha).double().mean()))
    found = torch.tensor(rates, dtype=torch.float64)
    return float(found.mean()), float(found.std() / math.sqrt(len(found)))


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.8])
def test_its_p_values_are_uniform_for_a_law_of_clusters(alpha: float) -> None:
    mean, error = false_alarms(alpha, exact=True)
    allowed = math.floor(alpha * 31) / 31  # of 30 that rank; without ties it is reached
    assert abs(mean - allowed) < 4 * error
    mean, error = false_alarms(alpha, exact=False)  # measured: at most 4 points too many
    assert mean < alpha + 0.04 + 4 * error


@pytest.mark.parametrize("n", [60, 200, 1000])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("with_regret", [False, True])
def test_what_most_calibration_inputs_read_is_no_surprise(
    with_regret: bool, exact: bool, n: int
) -> None:
    """As of a machine that idles: a new input that reads as 96 of 100 do ranks with them."""
    random = torch.Generator().manual_seed(0)

    def idle(n: int) -> dict[str, torch.Tensor]:
        drawn = torch.rand(n, 4, generator=random, dtype=torch.float64)
        none = torch.zeros(n, dtype=torch.float64)
        regret = drawn[:, 3] if with_regret else none
        lengths = torch.where(drawn[:, 0] < 0.04, drawn[:, 1], 0.0)
        label = torch.stack([drawn[:, 2], none], dim=1)
        return {"a": torch.stack([lengths, regret], dim=1), "head:label": label}

    for alpha in (0.05, 0.1, 0.5):
        rates = []
        for _ in range(60):
            calibration = LayerCalibration(idle(n), METHOD)
            calibration = made_exact(calibration) if exact else calibration
            p = calibration.p_values(calibration.scores_of(idle(200)))
            rates.append(float((p <= alpha).double().mean()))
        found = torch.tensor(rates)
        error = float(found.std()) / math.sqrt(len(found))
        ranks = calibration.num_samples + 1
        reached = math.floor(alpha * ranks) / ranks
        assert found.mean() < alpha + 4 * error  # nor is it far less, which streams would show
        assert found.mean() > 0.8 * reached - 4 * error
    constant = LayerCalibration({n: rows[:1].expand(50, -1) for n, rows in idle(1).items()}, METHOD)
    assert calibration.p_values(calibration.scores).min() >= calibration.smallest_alpha
    assert torch.equal(constant.p_values(constant.scores), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exact", [False, True])
def test_rounding_breaks_no_tie(exact: bool, method: str) -> None:
    """As of the size of a batch: what reads as most inputs do is no more surprising than they."""
    generator = torch.Generator().manual_seed(0)
    known = {name: 100 * rows for name, rows in labelled(400, 0).items()}
    known["head:label"] /= 100
    for rows in known.values():
        rows[20:] = rows[20]
    calibration = LayerCalibration(known, method)
    calibration = made_exact(calibration) if exact else calibration
    new = {name: rows[20:80].clone() for name, rows in known.items()}
    for rows in new.values():
        rows[:, 0] *= 1 + 2e-6 * torch.rand(60, generator=generator)
    assert calibration.p_values(calibration.scores_of(new)).min() > 0.9


@pytest.mark.parametrize("method", ["code_length", "fisher", "simes", "harmonic"])
def test_one_half_makes_the_score_and_the_other_ranks_it(method: str) -> None:
    known, new = labelled(41, 0), labelled(9, 1)
    calibration = made_exact(LayerCalibration(known, method))
    assert calibration.exact and calibration.standard is not None
    kept = [calibration.standard, calibration.layers]
    assert [len(part["a"]) for part in kept] == [20, 21]
    for name, rows in known.items():
        both = torch.cat([part[name] for part in kept])
        assert torch.equal(both.sort(dim=0).values, rows.sort(dim=0).values)
    tables = Tables.of(LayerReadings.read(calibration.standard).raised(), method)
    ranked, scores = (
        tables.scores(readings, method)
        for readings in (
            LayerReadings.read(calibration.layers).raised(),
            LayerReadings.read(new),
        )
    )
    assert torch.equal(calibration.scores, ranked)
    assert torch.equal(calibration.scores_of(new), scores)
    expected = [(1 + int((ranked >= s).sum())) / 22 for s in scores]
    assert calibration.p_values(scores).tolist() == pytest.approx(expected)
    assert calibration.smallest_alpha == 1 / 22
    again = made_exact(LayerCalibration(known, method))
    assert torch.equal(again.scores, ranked)  # the halves are seeded
    other = made_exact(LayerCalibration(known, method), seed=1)
    assert not torch.equal(other.layers["a"], calibration.layers["a"])


def test_predicted_classes_and_weights_go_with_their_inputs() -> None:
    known = {"a": torch.arange(400.0)[:, None].expand(-1, 2)}
    predicted, weights = torch.arange(400) % 3, 1 + torch.arange(400).double()
    calibration = made_exact(
        LayerCalibration(known, "code_length", by_class=True, predicted=predicted, weights=weights)
    )
    rows = calibration.layers["a"][:, 0].long()
    assert calibration.by_class and calibration.predicted is not None
    assert calibration.weights is not None and calibration.standard is not None
    assert torch.equal(calibration.predicted, predicted[rows])
    assert torch.equal(calibration.weights, weights[rows])
    assert not {*rows.tolist()} & {*calibration.standard["a"][:, 0].long().tolist()}


def test_what_is_added_ranks_on_the_scale_that_there_is() -> None:
    before = made_exact(LayerCalibration(labelled(60, 0), "code_length"))
    grown = with_more(before, labelled(40, 1))
    assert grown.exact and grown.num_samples == 70
    assert torch.equal(grown.scores[:30], before.scores)
    new = labelled(10, 2)
    assert torch.equal(grown.scores_of(new), before.scores_of(new))


def test_a_score_that_nothing_makes_keeps_all_its_ranks() -> None:
    for method in ("mean", "max", "total"):
        calibration = LayerCalibration(labelled(9, 0), method)
        assert calibration.exact and made_exact(calibration) is calibration
    assert not LayerCalibration(labelled(9, 0), "simes").exact


def test_inputs_that_are_not_finite_make_no_score() -> None:
    known = labelled(40, 0)
    known["a"][::4] = torch.nan
    calibration = made_exact(LayerCalibration(known, "code_length"))
    assert calibration.scores.isfinite().sum() == calibration.num_samples < 20
    assert calibration.scores_of(labelled(5, 1)).isfinite().all()


def test_what_cannot_be_halved() -> None:
    with pytest.raises(InputError, match="calibrate exact: found 3 inputs, allowed: at least 4"):
        made_exact(LayerCalibration(labelled(3, 0), "code_length"))
    rows = labelled(4, 0)
    with pytest.raises(InputError, match="standard: layer 'b' is in standard alone"):
        LayerCalibration(rows, "code_length", standard={**rows, "b": rows["a"]})
    with pytest.raises(InputError, match="standard: layer 'a' is calibrated alone"):
        LayerCalibration(rows, "code_length", standard={"head:label": rows["head:label"]})


def test_what_made_the_score_is_noticed_when_it_is_to_rank_it_too() -> None:
    calibration = made_exact(LayerCalibration(labelled(200, 0), "code_length"))
    assert calibration.standard is not None
    for known in (calibration.standard, calibration.layers):
        (remark,) = [r for r in remarks_on_addition(calibration, known) if "already" in r]
        assert remark.startswith("100% of the added inputs seem to be in the calibration already")
    assert not [r for r in remarks_on_addition(calibration, labelled(60, 1)) if "already" in r]
