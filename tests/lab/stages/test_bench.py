"""The stages through `run_bench`: what fails becomes a row, what is done is not done again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.files import read_json, read_npz
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.splits import build_splits
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.inference.primary import WrappedScorer, load_primary
from nervecode.lab.inference.source import Inputs
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import Config
from nervecode.lab.stages.bench import Outcome, guarded, prepare, run_bench
from nervecode.lab.stages.checkpoint import load_calibrated
from nervecode.lab.stages.dry_run import dry_run
from nervecode.lab.trainer.build import build_trainer
from nervecode.lab.trainer.trainer import Trainer

TINY = (
    "name=tiny", "seeds=[0]", "device=cpu", "model.width=8", "train.epochs=2",
    "data.far=[uniform_noise]", "data.shift=[]", "bench.limit_eval=30", "bench.accuracy_gate=0",
)  # fmt: skip
METHODS = ("nervecode", "nervecode_v0_1_1", "combo_id_zscore_equal_E+N")


def tiny(*overrides: str) -> Config:
    return resolve(preset="digits", overrides=[*TINY, *overrides]).config


def bench(config: Config, parent: Path) -> tuple[RunDir, Outcome]:
    run = RunDir.create(config, parent, command="x")
    return run, again(run)


def again(run: RunDir, *, allow: bool = False) -> Outcome:
    prepared = prepare(run.config)
    with guarded(run):
        outcome = run_bench(run, prepared, allow_low_accuracy=allow, progress=Progress())
    assert outcome is not None
    return outcome


def done(run: RunDir) -> list[str]:
    lines = map(json.loads, (run.root / "log.jsonl").read_text().splitlines())
    return [line["stage"] for line in lines if line["event"] == "done"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Outcome]:
    config = tiny("bench.detectors=[energy]", "bench.keep_features=true")
    return bench(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(finished: tuple[RunDir, Outcome], tmp_path: Path) -> RunDir:
    """A copy of the finished run, to be gone on with."""
    return RunDir(shutil.copytree(finished[0].root, tmp_path / "copy"))


def changed(run: RunDir, *overrides: str, **settings: Any) -> Outcome:
    """The run gone on with under another config."""
    run.replace_config(
        resolve(file=run.root / "config.yaml", overrides=overrides, settings=settings).config
    )
    return again(run)


# Detectors that fail


def _raises_while_fitting(train: Any, head: Any) -> Any:
    raise RuntimeError("singular\nmatrix")


def _raises_while_scoring(train: Any, head: Any) -> Any:
    def score(split: Any) -> Any:
        raise ValueError("no scores today")

    return score


def _yields_nan(train: Any, head: Any) -> Any:
    return lambda split: torch.full((len(split.labels),), float("nan"))


def _yields_a_column(train: Any, head: Any) -> Any:
    return lambda split: split.logits[:, :1]


def _yields_one_too_many(train: Any, head: Any) -> Any:
    return lambda split: torch.zeros(len(split.labels) + 1)


def _yields_a_number(train: Any, head: Any) -> Any:
    return lambda split: 0.5


def _fails_on_outliers_alone(train: Any, head: Any) -> Any:
    def score(split: Any) -> Any:
        unlabelled = bool((split.labels < 0).any())
        return split.logits[:, 0] / (0.0 if unlabelled else 1.0)

    return score


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "reason"),
    [
        (_raises_while_fitting, "RuntimeError: singular matrix"),
        (_raises_while_scoring, "ValueError: no scores today"),
        (_yields_nan, "its scores hold NaN or infinity"),
        (_yields_a_column, "its scores have shape (30, 1), allowed: (30,)"),
        (_yields_one_too_many, "its scores have shape (31,), allowed: (30,)"),
        (_yields_a_number, "its scores have shape (), allowed: (30,)"),
        (_fails_on_outliers_alone, "its scores hold NaN or infinity"),
    ],
)
def test_a_detector_that_fails_is_a_row_with_its_reason(
    detector: Callable[..., Any], reason: str, copy: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "broken", detector)
    run, outcome = copy, changed(copy, "bench.detectors=[broken, energy]")
    broken = [row for row in outcome.rows if row["method"] == "broken"]
    assert [row["ood"] for row in broken] == ["digits_8_9", "uniform_noise"]
    assert {(row["status"], row["reason"], row["auroc"]) for row in broken} == {
        ("failed", reason, "")
    }
    others = {row["method"] for row in outcome.rows if row["status"] == "ok"}
    assert others == {*METHODS, "energy"}
    assert read_json(run.paths.failures(0)) == {"broken": reason}
    for split in ("id_calibration", "id_test", "ood_digits_8_9", "ood_uniform_noise"):
        assert "broken" not in read_npz(run.paths.scores(0, split))
    assert f"| broken | 0 | {reason} |" in (run.root / "tables.md").read_text()
    assert run.status == "complete"


@pytest.mark.slow
def test_without_detectors_the_signals_stand_alone(copy: RunDir) -> None:
    outcome = changed(copy, "bench.detectors=[]")
    assert {row["method"] for row in outcome.rows} == {"nervecode", "nervecode_v0_1_1"}


# Stages and their inputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "repeated"),
    [
        ("description=other", []),
        ("bench.limit_eval=29", ["score/seed_0", "tables"]),
        ("bench.detectors=[msp]", ["score/seed_0", "tables"]),
        ("signals.nervecode.reduce=mean", ["calibrate/seed_0", "score/seed_0", "tables"]),
        ("train.epochs=1", ["train/seed_0", "calibrate/seed_0", "score/seed_0", "tables"]),
    ],
)
def test_only_stages_whose_inputs_changed_are_repeated(
    override: str, repeated: list[str], copy: RunDir
) -> None:
    before = len(done(copy))
    changed(copy, override)
    assert done(copy)[before:] == repeated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "repeated"),
    [
        ("id_train", ["calibrate/seed_0", "score/seed_0", "tables"]),
        ("id_calibration", ["calibrate/seed_0", "score/seed_0", "tables"]),
        ("ood_uniform_noise", ["score/seed_0", "tables"]),
    ],
)
def test_a_set_by_name_that_is_another_than_it_was_repeats_what_reads_it(
    split: str, repeated: list[str], copy: RunDir
) -> None:
    """As another release of a package may give it."""
    datasets = copy.meta["datasets"]
    copy.update(datasets={**datasets, split: 64 * "0"})
    before = len(done(copy))
    again(copy)
    assert done(copy)[before:] == repeated
    assert copy.meta["datasets"] == datasets


@pytest.mark.slow
def test_another_seed_leaves_the_first_alone(copy: RunDir) -> None:
    before = len(done(copy))
    outcome = changed(copy, seeds=[0, 4])
    assert done(copy)[before:] == ["train/seed_4", "calibrate/seed_4", "score/seed_4", "tables"]
    assert {row["seed"] for row in outcome.rows} == {0, 4}
    assert set(outcome.gate["accuracy"]) == {"0", "4"}


def test_equal_configs_give_equal_weights_codes_and_scores(
    finished: tuple[RunDir, Outcome], tmp_path: Path
) -> None:
    one = finished[0]
    other, _ = bench(one.config, tmp_path)
    for path in (one.paths.checkpoint(0), one.paths.calibration(0)):
        back = load_file(other.root / path.relative_to(one.root))
        assert all(torch.equal(back[name], tensor) for name, tensor in load_file(path).items())
    for path in sorted([*one.root.rglob("*.npz"), one.root / "results.csv"]):
        assert path.read_bytes() == (other.root / path.relative_to(one.root)).read_bytes()


# What the files hold


def test_the_layerwise_files_hold_what_the_calibrated_model_says(
    finished: tuple[RunDir, Outcome],
) -> None:
    run, _ = finished
    splits = build_splits(run.config.data, limit_eval=30)
    trained = load_calibrated(run, 0, device=torch.device("cpu"))
    wrapped = trained.signals["nervecode"]
    for split, samples in splits.evaluated().items():
        arrays = read_npz(run.paths.layerwise(0, split))
        with torch.no_grad():
            logits, traces = wrapped.forward_with_trace(samples.inputs)
        assert arrays["layer_names"].tolist() == list(traces)
        assert arrays["surprise"].dtype == np.float32
        by_layer = torch.stack([trace.surprise for trace in traces.values()], 1)
        np.testing.assert_allclose(arrays["surprise"], by_layer, rtol=1e-3, atol=1e-2)
        np.testing.assert_array_equal(arrays["labels"], samples.labels)
        np.testing.assert_array_equal(arrays["predictions"], logits.argmax(1))
        np.testing.assert_array_equal(arrays["sample_ids"], np.arange(len(samples)))
        score = read_npz(run.paths.scores(0, split))["nervecode"]
        expected = wrapped.aggregate(traces).surprise
        if split == "id_calibration":  # each input among the others: p-values refer to these
            behind = wrapped.calibration.scores.sort().values
            np.testing.assert_allclose(np.sort(score), behind, rtol=1e-6)
            assert (score > expected.numpy()).sum() > len(score) / 2
        else:
            np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-3)


def test_a_combination_is_the_mean_of_scores_standardised_on_id_calibration(
    finished: tuple[RunDir, Outcome],
) -> None:
    run, _ = finished
    calibration = read_npz(run.paths.scores(0, "id_calibration"))
    for split in ("id_test", "ood_uniform_noise"):
        scores = read_npz(run.paths.scores(0, split))
        standardised = [
            (scores[name] - calibration[name].mean(dtype=float))
            / calibration[name].std(dtype=float)
            for name in ("energy", "nervecode")
        ]
        np.testing.assert_allclose(
            scores["combo_id_zscore_equal_E+N"], np.mean(standardised, 0), rtol=1e-3, atol=1e-4
        )


def test_a_checkpoint_is_complete_without_the_data(finished: tuple[RunDir, Outcome]) -> None:
    run, _ = finished
    tensors = load_file(run.paths.checkpoint(0))
    splits = build_splits(run.config.data)
    model = build_model(run.config.model, splits.train[:2], splits.num_classes)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()
                           if k.startswith("model.")})  # fmt: skip
    with torch.no_grad():
        right = model.eval()(splits.test.inputs[:30]).argmax(1) == splits.test.labels[:30]
    assert finished[1].gate["accuracy"]["0"] == pytest.approx(float(right.float().mean()))


def test_training_metrics_are_one_row_an_epoch(finished: tuple[RunDir, Outcome]) -> None:
    run, _ = finished
    with run.paths.metrics(0).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        loss, task, coding = (float(row[key]) for key in ("loss", "task_loss", "coding_loss"))
        assert loss == pytest.approx(task + 0.1 * coding)
        assert 0 <= float(row["accuracy"]) <= 1
        assert float(row["samples_per_second"]) > 0
    assert float(rows[0]["lr"]) == 0.05
    assert float(rows[1]["lr"]) == pytest.approx(0.025)
    with run.paths.diagnostics(0).open(newline="") as file:
        layers = list(csv.DictReader(file))
    assert len(layers) == 2 * 4
    assert all(0 < float(row["utilisation"]) <= 1 for row in layers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "schedule", "rates"),
    [("adamw", "constant", [0.01, 0.01]), ("sgd", "cosine", [0.01, 0.005])],
)
def test_optimisers_and_schedules_without_learned_codes(
    optimizer: str, schedule: str, rates: list[float], tmp_path: Path
) -> None:
    config = tiny(
        f"train.optimizer={optimizer}", f"train.schedule={schedule}", "train.learning_rate=0.01",
        "train.augment=crop", "bench.detectors=[]",
    )  # fmt: skip
    config = config.model_copy(update={"signals": {"nervecode": config.signals["nervecode"]}})
    run, outcome = bench(config, tmp_path)
    with run.paths.metrics(0).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates)
    assert {float(row["coding_loss"]) for row in rows} == {0.0}
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert not run.paths.diagnostics(0).exists()
    assert {row["method"] for row in outcome.rows} == {"nervecode"}


# New inputs


def test_percentiles_and_p_values_count_calibration_scores(
    finished: tuple[RunDir, Outcome],
) -> None:
    run, _ = finished
    scorer = WrappedScorer.of(run, None, device="cpu")
    assert scorer.shape == (1, 8, 8)
    test = build_splits(run.config.data).test.inputs
    inputs = Inputs(test, [str(i) for i in range(len(test))])
    found = scorer(inputs)
    calibration = read_npz(run.paths.scores(0, "id_calibration"))["nervecode"].astype(float)
    scores, n = found.surprise.astype(float), len(calibration)
    # The saved scores are float32, so that a near tie may count either way.
    below = (calibration[None] <= scores[:, None]).mean(1)
    np.testing.assert_allclose(found.percentile, below, atol=1.5 / n)
    above = (1 + (calibration[None] >= scores[:, None]).sum(1)) / (n + 1)
    np.testing.assert_allclose(found.p_value, above, atol=1.5 / n)
    assert (found.p_value <= 0.1).mean() < 0.2
    assert list(found.layers) == read_npz(run.paths.layerwise(0, "id_test"))["layer_names"].tolist()


# What goes wrong


def test_training_that_diverges_is_told_and_noted(tmp_path: Path) -> None:
    run = RunDir.create(tiny("train.learning_rate=1e30"), tmp_path, command="x")
    with pytest.raises(NervecodeError, match=r"training: the loss is .* smaller train\.learning"):
        again(run)
    assert RunDir(run.root).status == "failed"
    assert "the loss is" in RunDir(run.root).meta["error"]
    assert not run.paths.checkpoint(0).exists()


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt(), MemoryError("full")])
def test_whatever_ends_a_run_is_noted(tmp_path: Path, error: BaseException) -> None:
    run = RunDir.create(tiny(), tmp_path, command="x")
    with pytest.raises(type(error)), guarded(run):
        assert RunDir(run.root).status == "running"
        raise error
    found = RunDir(run.root)
    assert found.status == ("failed" if isinstance(error, Exception) else "interrupted")
    assert found.meta["error"] == (str(error) if isinstance(error, Exception) else None)
    with guarded(found):
        pass
    assert (found.status, found.meta["error"]) == ("partial", None)


@pytest.mark.parametrize("content", [b"junk", None])
def test_a_damaged_checkpoint_is_an_artifacts_error(copy: RunDir, content: bytes | None) -> None:
    copy.paths.checkpoint(0).unlink()
    if content is not None:
        copy.paths.checkpoint(0).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"seed_0\.safetensors: is"):
        load_primary(copy, 0, device="cpu")


def test_a_checkpoint_of_another_model_is_refused(finished: tuple[RunDir, Outcome]) -> None:
    run = RunDir(finished[0].root)
    run.__dict__["config"] = tiny("model.width=9")
    with pytest.raises(ArtifactError, match="does not fit model 'small_cnn'"):
        load_primary(run, 0, device="cpu")


def test_a_seed_that_the_run_lacks_is_refused(finished: tuple[RunDir, Outcome]) -> None:
    with pytest.raises(InputError, match="--seed: found 7, allowed: 0"):
        load_primary(finished[0], 7, device="cpu")


def test_a_layer_that_the_model_lacks_is_found_before_anything_is_written() -> None:
    with pytest.raises(InputError) as caught:
        prepare(tiny("signals.nervecode.layers=[block.0]"))
    text = "signals.nervecode.layers: 'block.0' matches no module of SmallCNN; did you mean 'block"
    assert str(caught.value).startswith(text)


def test_a_dry_run_times_the_trainer_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Trainer] = []

    def seconds(trainer: Trainer) -> float:
        timed.append(trainer)
        return 1.0

    monkeypatch.setattr("nervecode.lab.stages.dry_run._seconds_per_seed", seconds)
    learned = "signals.nervecode_v0_1_1={recipe: v0_1_1, revive: true}"
    config = tiny(learned)
    dry_run(config)
    splits = build_splits(config.data, limit_eval=30)
    trainer = build_trainer(config, splits, config.seeds[0], device=torch.device("cpu"))
    assert list(timed[0].revived) == list(trainer.revived) == ["nervecode_v0_1_1"]
    found, expected = timed[0].model.state_dict(), trainer.model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_dry_run_counts_what_a_run_would_use() -> None:
    config = tiny()
    found = dry_run(config)
    splits = build_splits(config.data, limit_eval=30)
    model = build_model(config.model, splits.train, splits.num_classes)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.layers == ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
    sizes = {name: len(part) for name, part in splits.evaluated().items()}
    assert found.split_sizes == {"id_train": len(splits.train), **sizes}
    assert found.train_seconds > 0
    assert found.memory_mb > 0
    assert found.disk_mb > 0
