"""The training loop: what it computes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.device import seed_everything, set_determinism, tensor_cores
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.models.signals import build_signals
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import ModelConfig, TrainConfig
from nervecode.lab.stages import train
from nervecode.lab.stages.bench import guarded, prepare, run_bench, run_stages
from nervecode.lab.stages.dry_run import dry_run
from nervecode.lab.trainer import build
from nervecode.lab.trainer.frozen import frozen_features
from nervecode.lab.trainer.trainer import Diverged, Trainer, check_finite
from tests.lab.stages.test_bench import bench, tiny
from tests.progress import Told

CPU = torch.device("cpu")


def images(count: int = 50, dtype: torch.dtype = torch.float32) -> Samples:
    inputs = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = (inputs * 255).to(dtype) if dtype == torch.uint8 else inputs
    return Samples(inputs, torch.arange(count) % 3)


def trainer(
    samples: Samples, *, signals: int = 0, device: torch.device = CPU, **options: Any
) -> Trainer:
    seed_everything(0)
    model = build_model(ModelConfig(name="small_cnn", width=4), samples, 3).to(device)
    overrides = ["signals.nervecode.recipe=v0_1_1", "signals.nervecode_b.recipe=v0_1_1"]
    config = resolve(preset="digits", overrides=overrides[:signals]).config
    signals_ = build_signals(config, model, recipe="v0_1_1") if signals else {}
    chosen = TrainConfig(batch_size=16, **options)
    return Trainer(
        model, dict(list(signals_.items())[:signals]), chosen, samples, seed=0, device=device
    )


def finished(one: Trainer, epochs: int = 1) -> dict[str, Any]:
    row = None
    for number in range(1, epochs + 1):
        row = one.epoch(number, Progress())
    assert row is not None
    return row


@pytest.mark.parametrize("freeze", [1, "backbone"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_frozen_network_stays_as_it_is_while_the_head_learns(
    freeze: int | str, optimizer: str
) -> None:
    one = trainer(images(), epochs=2, freeze=freeze, optimizer=optimizer, learning_rate=0.01)
    states = [{key: tensor.clone() for key, tensor in one.model.state_dict().items()}]
    for number in (1, 2):
        one.epoch(number, Progress())
        states.append({key: tensor.clone() for key, tensor in one.model.state_dict().items()})

    def moved(before: int, after: int) -> set[str]:
        return {k.split(".")[0] for k, t in states[before].items() if not t.equal(states[after][k])}

    assert moved(0, 1) == {"head"}
    assert moved(1, 2) == ({"head"} if freeze == "backbone" else {"head", "blocks"})


def test_a_frozen_epoch_is_a_linear_probe() -> None:
    samples = images()
    one = trainer(samples, epochs=1, freeze="backbone", learning_rate=0.05)
    model = one.model.eval()
    with torch.no_grad():
        features = model.features((samples.inputs - model.mean) / model.std)
    head = nn.Linear(8, 3)
    head.load_state_dict(model.head.state_dict())
    optimizer = torch.optim.SGD(
        head.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for step, index in enumerate(order.split(16)):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * step / 4))
        optimizer.zero_grad()
        F.cross_entropy(head(features[index]), samples.labels[index]).backward()
        optimizer.step()
    finished(one)
    torch.testing.assert_close(one.model.head.weight, head.weight, rtol=1e-4, atol=1e-5)


def test_kept_features_are_a_piece_of_work_of_their_own_before_the_steps(tmp_path: Path) -> None:
    told = Told()
    options = ["train.freeze=2", "train.epochs=3", "train.batch_size=100", "seeds=[0]"]
    config = tiny(*options, "signals.nervecode_v0_1_1=null")
    prepared, run = prepare(config), RunDir.create(config, tmp_path, command="x")
    with guarded(run):
        run_stages(run, prepared, ("train",), progress=told)
    batches = -(-len(prepared.splits.train) // 100)
    steps = 3 * batches
    assert told.pieces == [("features", batches, batches), ("train seed 0", steps, steps)]


@pytest.mark.parametrize(("freeze", "made"), [("backbone", [16]), (2, [16]), (0, [])])
def test_a_dry_run_makes_the_features_of_one_batch(
    freeze: object, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    def counted(model: nn.Module, inputs: Tensor, *rest: Any) -> Tensor:
        counts.append(len(inputs))
        return frozen_features(model, inputs, *rest)

    monkeypatch.setattr("nervecode.lab.trainer.trainer.frozen_features", counted)
    options = [f"train.freeze={freeze}", "train.batch_size=16", "train.epochs=4"]
    found = dry_run(tiny(*options, "signals.nervecode_v0_1_1=null"))
    assert counts == made
    assert found.train_seconds > 0


def test_an_estimate_has_frozen_and_other_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def timed(one: Trainer, size: int) -> float:
        modes.append(one.kept is not None)
        return 1.0 if one.kept is not None else 100.0

    monkeypatch.setattr("nervecode.lab.stages.dry_run._seconds_per_step", timed)
    config = tiny("train.freeze=2", "train.epochs=5", "signals.nervecode_v0_1_1=null", "seeds=[0]")
    steps = -(-len(prepare(config).splits.train) // config.train.batch_size)
    seconds = dry_run(config).train_seconds
    assert modes == [True, False]
    assert (2 + 300) * steps < seconds < (2 + 300) * steps + 60  # the rest are the features


@pytest.mark.parametrize("freeze", [-1, True, 1.5, "head"])
def test_freeze_is_a_number_of_epochs_or_the_backbone(freeze: object) -> None:
    with pytest.raises(ValueError, match="allowed: a number of epochs, or backbone"):
        TrainConfig.model_validate({"freeze": freeze})


def test_an_epoch_is_that_of_a_bare_loop() -> None:
    samples = images()
    found = trainer(samples, epochs=2, learning_rate=0.05)
    row = finished(found)
    seed_everything(0)
    model = build_model(ModelConfig(name="small_cnn", width=4), samples, 3)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    total = 0.0
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for step, index in enumerate(order.split(16)):
        x = samples.inputs[index].contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(x), samples.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + np.cos(np.pi * step / 8))
        optimizer.step()
        total += float(loss.detach()) * len(index)
    assert row["loss"] == pytest.approx(total / 50, rel=1e-5)
    for mine, theirs in zip(found.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_bytes_train_as_the_floats_that_they_stand_for() -> None:
    stored = images(dtype=torch.uint8)
    floats = Samples(stored.inputs.float() / 255, stored.labels)
    one, other = (trainer(s, augment="crop_flip") for s in (stored, floats))
    assert finished(one)["loss"] == finished(other)["loss"]
    assert one.inputs.dtype == torch.uint8


def test_batches_are_a_permutation_with_an_augmentation_each() -> None:
    one = trainer(images(), augment="crop_flip")
    batches = one._batches()
    assert sorted(torch.cat([index for index, _ in batches]).tolist()) == list(range(50))
    assert [len(index) for index, _ in batches] == [16, 16, 16, 2]
    for index, augmentation in batches:
        assert augmentation.offsets is not None
        assert augmentation.offsets.shape == (2, len(index))
    assert torch.equal(one._batches()[0][0], batches[0][0])
    finished(one)
    assert not torch.equal(one._batches()[0][0], batches[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("signals", [0, 1])
def test_a_step_waits_for_no_figure(
    signals: int, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tensor on `meta` has no figures: whatever asks for one, as `.item()` does, fails there.
    monkeypatch.setattr(Trainer, "_autocast", lambda self: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    monkeypatch.setattr(torch.Tensor, "is_meta", False)  # else its layers are refused
    meta = torch.device("meta")
    one = trainer(images(), signals=signals, device=meta, optimizer=optimizer, augment="crop_flip")
    one.model.train()
    for index, augmentation in one._batches():
        sums = one.step(index, augmentation)
        assert (sums.device, sums.shape) == (meta, (3,))
    with pytest.raises(RuntimeError, match="meta"):
        sums.sum().item()


def test_bfloat16_leaves_weights_and_losses_in_float32() -> None:
    one = trainer(images(), signals=1, precision="bfloat16")
    seen: list[torch.dtype] = []
    blocks = one.model.get_submodule("blocks")
    blocks.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    assert np.isfinite(finished(one)["loss"])
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("signals", [0, 1])
def test_a_compiled_step_is_that_of_the_eager_one(
    signals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[object] = []

    def compiled(function: Any) -> Any:
        graphs.append(function)
        return torch_compile(function, backend="eager")

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compiled)
    rows = [finished(trainer(images(), signals=signals, compile=on), 2) for on in (False, True)]
    assert len(graphs) == 1
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)
    assert (rows[0]["coding_loss"] > 0) == bool(signals)
    assert rows[0]["coding_loss"] == pytest.approx(rows[1]["coding_loss"], rel=1e-4)


def test_two_learned_signals_are_not_compiled() -> None:
    with pytest.raises(InputError, match=r"train\.compile: found 2 learned signals \(nervecode, n"):
        trainer(images(), signals=2, compile=True)


# NaN


@pytest.mark.parametrize(
    ("losses", "weights", "words"),
    [
        ([2.0, 1.5, float("nan"), 1.0], [1.0],
         "the loss is nan in epoch 4, step 3 of 4, at learning rate 0.1 (last finite loss: 1.5)"),
        ([float("inf"), float("nan")], [1.0],
         "the loss is inf in epoch 4, step 1 of 2, at learning rate 0.1 (last finite loss: none "),
        ([2.0, 1.25], [float("nan")],
         "a weight is NaN or infinite after epoch 4, step 2 of 2, at learning rate 0.1 (last fin"),
    ],
)  # fmt: skip
def test_what_is_not_finite_is_named(losses: Any, weights: Any, words: str) -> None:
    with pytest.raises(Diverged) as told:
        check_finite(torch.tensor(losses), [torch.ones(2), torch.tensor(weights)], "epoch 4", 0.1)
    assert words in str(told.value)


class Poison(Trainer):
    """A trainer of seed 0 whose loss becomes NaN in the fifteenth step."""

    def step(self, *args: Any) -> Tensor:
        self.count = getattr(self, "count", 0) + 1
        sums = super().step(*args)
        broken = self.random.initial_seed() == 0 and self.count == 15
        return sums * float("nan") if broken else sums


@pytest.mark.slow
def test_a_seed_that_diverges_leaves_the_others_their_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("seeds=[0, 1]", "train.epochs=3", "train.batch_size=128", "bench.detectors=[]")
    run = RunDir.create(config, tmp_path, command="x")
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(build, "Trainer", Poison)
    prepared = prepare(config)
    with pytest.raises(NervecodeError) as told, guarded(run):
        run_bench(run, prepared, allow_low_accuracy=True, progress=Progress())
    steps = -(-len(prepared.splits.train) // 128)
    epoch, step = divmod(14, steps)
    assert epoch > 0
    where = f"epoch {epoch + 1}, step {step + 1} of {steps}"
    assert str(told.value).startswith(f"seed 0: training: the loss is nan in {where}, at learning")
    found = RunDir(run.root)
    assert (found.status, found.meta["error"]) == ("failed", str(told.value))
    assert not found.paths.checkpoint(0).exists()
    assert found.paths.resume(0).is_file()
    assert found.verified(found.paths.scores(1, "id_test"))
    monkeypatch.undo()
    remarks: list[str] = []
    monkeypatch.setattr(Progress, "tell", lambda self, remark: remarks.append(remark))
    with guarded(run):
        run_bench(run, prepared, allow_low_accuracy=True, progress=Progress())
    assert f"seed 0: goes on after epoch {epoch} of 3" in remarks
    assert "seed 1: train was done before" in remarks
    assert RunDir(run.root).status == "complete"


# Determinism


@pytest.fixture
def as_before() -> Any:
    yield
    set_determinism(CPU, wanted=False)


def test_one_seed_is_that_of_every_generator() -> None:
    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    seed_everything(3)
    first = drawn()
    seed_everything(3)
    assert drawn() == first
    seed_everything(4)
    assert not set(drawn()) & set(first)


def test_deterministic_algorithms_are_switched_on_and_off(as_before: None) -> None:
    assert "deterministic algorithms only" in set_determinism(CPU, wanted=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert "as many threads" in set_determinism(CPU, wanted=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "to rounding" in set_determinism(torch.device("cuda"), wanted=False)


@pytest.mark.slow
def test_a_deterministic_run_says_so_and_repeats(as_before: None, tmp_path: Path) -> None:
    config = tiny("deterministic=true", "train.augment=crop_flip", "bench.detectors=[msp,knn]")
    runs = [bench(config, tmp_path / part)[0] for part in ("one", "other")]
    one, other = ((run.root / "results.csv").read_bytes() for run in runs)
    assert one == other
    told = RunDir(runs[0].root).meta["determinism"]
    assert told["deterministic"] is True
    assert told["guarantee"].startswith("bit-identical on this machine: deterministic")
    assert told["seeded"] == ["python", "numpy", "torch", "cuda"]


def test_tf32_is_for_training_on_cuda_alone() -> None:
    before = torch.get_float32_matmul_precision()
    with tensor_cores(CPU):
        assert torch.get_float32_matmul_precision() == before
    with tensor_cores(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_a_dry_run_trains_with_augmentation() -> None:
    found = dry_run(tiny("train.augment=crop_flip"))
    assert found.train_seconds > 0
    assert found.parameters > 0


def test_an_epoch_trains_the_norms_too() -> None:
    one = trainer(images())
    finished(one)
    assert one.model.training
    norms = [m for m in one.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 4 for norm in norms)
