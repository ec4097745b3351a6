"""One process against two: the same training, the same codes, the same table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.data.entry_points import as_dataset
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.machine.interrupt import Interrupted, interrupt
from nervecode.lab.machine.progress import Progress
from nervecode.lab.ranks.batch_norm import normalise_together
from nervecode.lab.ranks.job import Job
from nervecode.lab.results.rows import read_rows
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.shared import open_shared
from nervecode.lab.stages.bench import guarded, prepare, run_bench, run_stages
from nervecode.lab.trainer.build import build_trainer
from tests.lab.stages.test_bench import tiny
from tests.ranks import together

CPU = torch.device("cpu")
LEARNED = ("signals.nervecode_v0_1_1.detach=false", "train.learning_rate=0.02")
MODELS = {
    "perceptron": ("model.name=mlp", "model.width=16"),
    "batch norm": ("model.name=small_cnn", "model.width=6", "train.augment=crop"),
    "adamw": ("model.name=mlp", "train.optimizer=adamw", "train.learning_rate=0.001"),
    "residual": ("model.name=resnet18", "model.width=2"),
    "frozen at first": ("model.name=small_cnn", "model.width=6", "train.freeze=2"),
}


def trained(job: Job, overrides: tuple[str, ...], size: int, epochs: int) -> dict[str, Any]:
    """50 steps or so in float64, of `size` inputs; what came of them on each rank."""
    torch.set_default_dtype(torch.float64)
    config = tiny("train.batch_size=32", f"train.epochs={epochs}", *LEARNED, *overrides)
    found = build_splits(config.data, limit_eval=30)
    train = Samples(found.train.inputs[:size].double(), found.train.labels[:size])
    splits = Splits(**{**vars(found), "train": train})
    trainer = build_trainer(config, splits, 0, device=CPU)
    rows = [trainer.epoch(number + 1, Progress()) for number in range(epochs)]
    tensors = trainer.model.state_dict()
    for name, wrapped in trainer.signals.items():
        tensors |= {f"{name}.{key}": t for key, t in wrapped.coders.state_dict().items()}
    return {"rows": rows, "layers": trainer.layer_rows, "tensors": tensors}


def assert_alike(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for key, tensor in expected["tensors"].items():
        torch.testing.assert_close(
            found["tensors"][key], tensor, rtol=tolerance, atol=tolerance, msg=key
        )
    for part in ("rows", "layers"):
        assert len(found[part]) == len(expected[part])
        for one, other in zip(found[part], expected[part], strict=True):
            assert one.keys() == other.keys()
            assert one.get("layer") == other.get("layer")
            for key in one.keys() - {"layer", "samples_per_second"}:
                assert one[key] == pytest.approx(other[key], rel=tolerance, abs=tolerance), key


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_as_one(name: str) -> None:
    # 10 steps an epoch; of the last batch, 5 inputs are left: 3 for one rank, 2 for the other.
    arguments = (MODELS[name], 32 * 9 + 5, 5)
    (expected,) = together(trained, *arguments, world=1, WORLD_SIZE="1")
    assert expected["tensors"]["head.weight"].dtype == torch.float64
    for found in together(trained, *arguments):
        assert_alike(found, expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["perceptron", "batch norm"])
def test_a_rank_may_have_no_part_of_the_last_batch(name: str) -> None:
    arguments = (MODELS[name], 32 * 2 + 1, 3)
    (expected,) = together(trained, *arguments, world=1, WORLD_SIZE="1")
    for found in together(trained, *arguments):
        assert_alike(found, expected, 1e-5)


def test_an_unknown_batch_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(torch.nn.BatchNorm2d):
        """As of a library that fuses it with something."""

    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), Odd(2))
    normalise_together(model)
    monkeypatch.setattr("nervecode.lab.ranks.job.CurrentJob.job", Job(0, 2))
    with pytest.raises(InputError, match="layer '1' is a Odd, which sees a part"):
        normalise_together(model)


def normalised(job: Job, shape: tuple[int, ...]) -> list[Tensor]:
    """Output, gradient and running statistics of a batch norm, of this rank's part of a batch."""
    torch.manual_seed(0)
    x = (100 + torch.randn(shape)).double()
    norm = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)](shape[1]).double()
    torch.nn.init.normal_(norm.weight)
    normalise_together(norm)
    part = x[job.shard(len(x))].requires_grad_()
    out = norm(part)
    (out * torch.arange(x.numel()).view(shape)[job.shard(len(x))].sin()).sum().backward()
    assert part.grad is not None and norm.running_mean is not None and norm.running_var is not None
    norm.eval()
    return [out.detach(), part.grad, norm(x).detach(), norm.running_mean, norm.running_var]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(7, 3), (1, 3, 2, 4), (5, 2, 3, 3)])
def test_batch_norm_sees_the_whole_batch(shape: tuple[int, ...]) -> None:
    (expected,) = together(normalised, shape, world=1, WORLD_SIZE="1")
    first, second = together(normalised, shape)
    for index in range(2):  # output and gradient, in parts
        joined = torch.cat([first[index], second[index]])
        torch.testing.assert_close(joined, expected[index], rtol=1e-9, atol=1e-9)
    for index in range(2, 5):
        torch.testing.assert_close(first[index], expected[index], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(second[index], expected[index], rtol=1e-9, atol=1e-9)


# Stages


def do(job: Job, root: Path, stages: tuple[str, ...], cut: int = 0) -> list[str]:
    """Do stages of a run as one rank; with `cut`, the last rank gets a signal in that step."""
    told = Told(cut if job.rank == job.world - 1 else 0)
    run = open_shared(root)
    prepared = prepare(run.config)
    with guarded(run):
        run_stages(run, prepared, stages, progress=told)
    return told.remarks


class Told(Progress):
    """Keeps what it is told; sends this process SIGINT in its n-th step."""

    def __init__(self, cut: int) -> None:
        self.remarks: list[str] = []
        self.left = cut

    def tell(self, remark: str) -> None:
        self.remarks.append(remark)

    def advance(self, steps: int = 1, **shown: float) -> None:
        self.left -= steps
        if self.left == 0 and steps:
            interrupt(2, None)


def config_of(*overrides: str) -> Any:
    return tiny("train.batch_size=64", "bench.detectors=[energy,mahalanobis]", *overrides)


def tensors_of(run: RunDir) -> dict[str, Tensor]:
    return load_file(run.paths.calibration(0))


@pytest.mark.slow
@pytest.mark.parametrize("codes_per_class", [1, 2])
def test_codes_and_rows_after_training_are_those_of_one_process(
    codes_per_class: int, tmp_path: Path
) -> None:
    several = f"signals.nervecode.codes_per_class={codes_per_class}"
    one = RunDir.create(config_of(several), tmp_path, command="x")
    prepared = prepare(one.config)
    with guarded(one):
        run_stages(one, prepared, ("train",), progress=Progress())
    two = RunDir(shutil.copytree(one.root, tmp_path / "two"))
    before = set(two.root.rglob("*"))
    remarks = together(do, two.root, ("train", "calibrate", "score"))
    assert remarks == [["seed 0: train was done before"]] * 2
    assert before < set(two.root.rglob("*"))
    two = RunDir(two.root)
    for run in (one, two):
        with guarded(run):
            run_bench(run, prepared, allow_low_accuracy=True, progress=Progress())
    expected, found = tensors_of(one), tensors_of(two)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-9, msg=name)
    rows = zip(read_rows(one)["rows"], read_rows(two)["rows"], strict=True)
    for row, other in rows:
        assert other == pytest.approx(row, abs=1e-6)


def outcome(run: RunDir) -> tuple[dict[str, Tensor], list[str], str]:
    rows = [line.rsplit(",", 1)[0] for line in run.paths.metrics(0).read_text().splitlines()]
    return load_file(run.paths.checkpoint(0)), rows, run.paths.diagnostics(0).read_text()


@pytest.mark.slow
def test_a_training_of_two_that_was_cut_ends_in_the_same_bits(tmp_path: Path) -> None:
    config = config_of("model.name=vit", "model.depth=1", "train.epochs=3", *LEARNED)
    whole, parts = (RunDir.create(config, tmp_path / n, command="x") for n in ("whole", "parts"))
    together(do, whole.root, ("train",))
    cut = together(do, parts.root, ("train",), 20)
    assert [type(one) for one in cut] == [Interrupted] * 2  # though one rank alone was told
    assert cut[0].command.endswith("--nproc 2")
    assert RunDir(parts.root).status == "interrupted"

    (refused,) = together(do, parts.root, ("train",), world=1, WORLD_SIZE="1")
    assert isinstance(refused, InputError)
    assert "was begun by 2 processes, found: 1 process" in str(refused)
    assert "--allow-world-size-change" in str(refused)

    other = shutil.copytree(parts.root, tmp_path / "other")
    remarks, _ = together(do, parts.root, ("train",))
    assert remarks == ["seed 0: goes on after epoch 1 of 3 and step 6"]
    (first, *found), (second, *expected) = outcome(RunDir(parts.root)), outcome(RunDir(whole.root))
    assert found == expected
    assert first.keys() == second.keys()
    for name, tensor in second.items():
        assert torch.equal(first[name], tensor), name

    (remarks,) = together(do_in_another_world, other, world=1, WORLD_SIZE="1")
    assert remarks == ["seed 0: goes on after epoch 1 of 3 and step 6"]
    changed = outcome(RunDir(other))
    assert [row.split(",")[0] for row in changed[1]] == ["epoch", "1", "2", "3"]
    assert changed[1][1] == expected[0][1]


def do_in_another_world(job: Job, root: Path) -> list[str]:
    from nervecode.lab.ranks.join import joined

    with joined(any_world=True) as alone:
        return do(alone, root, ("train",))


@pytest.mark.slow
def test_a_rank_that_fails_in_a_stage_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    run = RunDir.create(config_of(), tmp_path, command="x")
    first, second = together(fail_in_step_three, run.root)
    assert isinstance(second, ValueError)
    assert isinstance(first, NervecodeError) and "rank 1" in str(first)
    left = RunDir(run.root)
    assert left.status == "failed"
    assert "ValueError: a bad day" in left.meta["error"]
    assert not list(run.root.rglob(".*"))  # no lock, and no half of a file
    together(do, run.root, ("train",))
    assert RunDir(run.root).paths.checkpoint(0).is_file()


def fail_in_step_three(job: Job, root: Path) -> list[str]:
    class Fails(Told):
        def advance(self, steps: int = 1, **shown: float) -> None:
            self.left -= steps
            if self.left == -3 and job.rank == 1:
                raise ValueError("a bad day")

    run = open_shared(root)
    prepared = prepare(run.config)
    with guarded(run):
        run_stages(run, prepared, ("train",), progress=Fails(0))
    return []


@pytest.mark.slow
def test_a_set_that_gives_each_rank_other_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "acme_rings", None)  # its name alone
    config = config_of("data.id=acme_rings", "data.hold_out=[]", "data.near=[]")
    run = RunDir.create(config, tmp_path, command="x")
    first, second = together(do_unseeded, run.root)
    told = "data: rank 1 was given other rows of id_train, id_calibration, id_test than rank 0, "
    assert isinstance(first, NervecodeError) and told in str(first)
    assert isinstance(second, NervecodeError) and told in str(second)
    assert not RunDir(run.root).meta["stages"]


def do_unseeded(job: Job, root: Path) -> list[str]:
    """As `do`, on pictures that each process draws for itself."""
    random = np.random.default_rng(job.rank)
    pictures = random.random((90, 1, 8, 8), np.float32), np.arange(90) % 3
    DATASETS["acme_rings"] = lambda: as_dataset("acme_rings", pictures)
    return do(job, root, ("train",))
