"""bench: all stages over the seeds of a run, resumed where they stand, and the gated rows."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nervecode.errors import InputError, NervecodeError
from nervecode.files import write_text
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.machine.device import choose_device, set_determinism
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.ranks.batch_norm import normalise_together
from nervecode.lab.ranks.job import check_devices, current, local_world
from nervecode.lab.results.rows import Gate, Row, gate_verdict, seed_rows, withhold, write_rows
from nervecode.lab.results.tables import markdown
from nervecode.lab.run.directory import RunDir, require_stage
from nervecode.lab.schema import PRIMARY, Config
from nervecode.lab.stages.calibrate import calibrate_seed
from nervecode.lab.stages.checkpoint import load_calibrated
from nervecode.lab.stages.score import score_seed
from nervecode.lab.stages.train import train_seed
from nervecode.lab.trainer.trainer import Diverged
from nervecode.layers import WrappedModel, select_layers

Stage = Callable[..., bool]
STAGES: dict[str, Stage] = {
    "train": train_seed,
    "calibrate": calibrate_seed,
    "score": score_seed,
}


@dataclass(frozen=True)
class Outcome:
    """What a bench found: its rows (withheld where the gate failed) and the gate's verdict."""

    rows: list[Row]
    gate: Gate


@dataclass(frozen=True)
class Prepared:
    """What a config needs of the machine: its data in memory, and a device."""

    splits: Splits
    device: torch.device
    guarantee: str  # what holds when the run is repeated


def prepare(config: Config) -> Prepared:
    """Load the data, and find every fault of a config before anything is written.

    Raises:
        InputError: no such device, class, or layer.
    """
    device = choose_device(config.device)
    check_devices(device)
    if config.threads is not None:
        torch.set_num_threads(max(1, config.threads // local_world()))
    guarantee = set_determinism(device, wanted=config.deterministic)
    splits = build_splits(config.data, limit_eval=config.bench.limit_eval)
    model = build_model(config.model, splits.train, splits.num_classes)
    normalise_together(model)
    for name, signal in config.signals.items():
        try:
            select_layers(model, signal.layers)
        except InputError as error:
            raise InputError(f"signals.{name}.{error}") from None
    return Prepared(splits, device, guarantee)


def run_stages(
    run: RunDir, prepared: Prepared, stages: tuple[str, ...], *, progress: Progress
) -> None:
    """Do stages for every seed of a run, skipping what is done; the caller has claimed the run.

    Raises:
        NervecodeError: a stage failed; the run is marked, and what is done stays.
    """
    splits, device = prepared.splits, prepared.device
    _note_data(run, prepared)
    diverged: list[str] = []
    seeds = run.config.seeds
    parts = list(stages) * len(seeds)
    for number, seed in enumerate(seeds):
        try:
            for place, name in enumerate(stages, start=1 + number * len(stages)):
                progress.part(parts, place, f"seed {number + 1} of {len(seeds)}")
                if not STAGES[name](run, splits, seed, device=device, progress=progress):
                    progress.tell(f"seed {seed}: {name} was done before")
        except Diverged as error:  # the other seeds are worth having
            progress.tell(str(error))
            diverged.append(str(error))
    progress.part(parts, len(parts) + 1, "")
    if diverged:
        raise NervecodeError("\n".join(diverged))


def run_bench(
    run: RunDir, prepared: Prepared, *, allow_low_accuracy: bool, progress: Progress
) -> Outcome:
    """All stages, then rows, tables and the verdict of the gate.

    Args:
        run: a run, claimed by the caller.
        prepared: data and device of its config.
        allow_low_accuracy: report figures of a run that did not pass its gate, marked as such.
        progress: told what is done.
    """
    run_stages(run, prepared, tuple(STAGES), progress=progress)
    gate = gate_verdict(run, run.config.seeds)
    groups = {one.name: one.group for one in prepared.splits.ood}
    rows = [row for seed in run.config.seeds for row in seed_rows(run, seed, groups, gate)]
    if not gate["passed"] and not allow_low_accuracy:
        rows = withhold(rows, gate)
    _write_tables(run, rows, gate, allow_low_accuracy)
    status = "complete" if gate["passed"] else "gate_failed"
    run.update(status=status, gate=gate)
    if not run.config.bench.keep_features:
        shutil.rmtree(run.root / "features", ignore_errors=True)
    return Outcome(rows, gate)


def load_primary(
    run: RunDir, seed: int | None, *, device: str | None
) -> tuple[WrappedModel, tuple[int, ...]]:
    """The calibrated primary signal of a seed, and the shape of one input.

    Raises:
        InputError: a seed that the run does not have.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
    """
    seeds = run.config.seeds
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise InputError(f"--seed: found {chosen}, allowed: {', '.join(map(str, seeds))}")
    require_stage(run, "calibrate")
    splits = build_splits(run.config.data)
    where = choose_device(device or run.config.device)
    trained = load_calibrated(run, splits, chosen, device=where)
    return trained.signals[PRIMARY], tuple(splits.train.inputs.shape[1:])


def guarded(run: RunDir, work: Callable[[], Any]) -> Any:
    """Do work on a claimed run; if it fails or is interrupted, the metadata say so."""
    with run.claimed():
        run.update(status="running", error=None)
        try:
            result = work()
        except Exception as error:
            with suppress(NervecodeError):  # on a full disk, the first error is the one to tell
                run.log("failed", error=str(error))
                run.update(status="failed", error=str(error))
            raise
        except BaseException as stop:
            run.update(status="interrupted")
            if isinstance(stop, Interrupted):
                world = current().world
                number = ["--nproc", str(world)] if world > 1 else []
                stop.command = shlex.join(["nervecode", "bench", str(run.root), *number])
            raise
        if run.meta["status"] == "running":
            run.update(status="partial")
        return result


def _note_data(run: RunDir, prepared: Prepared) -> None:
    splits, device = prepared.splits, prepared.device
    parts = {"id_train": splits.train, **splits.evaluated()}
    run.update(
        datasets={name: samples.fingerprint() for name, samples in parts.items()},
        split_sizes={name: len(samples) for name, samples in parts.items()},
        num_classes=splits.num_classes,
        ood_groups={one.name: one.group for one in splits.ood},
        device={"type": device.type, "threads": torch.get_num_threads()},
        determinism={
            "deterministic": run.config.deterministic,
            "guarantee": prepared.guarantee,
            "seeded": ["python", "numpy", "torch", "cuda"],
        },
    )


def _write_tables(run: RunDir, rows: list[Row], gate: Gate, allowed: bool) -> None:
    def work() -> list[Path]:
        tables = run.root / "tables.md"
        write_text(tables, markdown(run.meta | {"gate": gate}, rows))
        mark = run.root / "GATE_FAILED.txt"
        if gate["passed"]:
            mark.unlink(missing_ok=True)
        else:
            write_text(mark, "ID test accuracy did not reach the gate: no OOD figure counts.\n")
        return [*write_rows(run, rows, gate), tables]

    scores = {k: v["outputs"] for k, v in run.meta["stages"].items() if k.startswith("score/")}
    inputs = {"scores": scores, "gate": gate, "allowed": allowed, "demo": run.meta["demo"]}
    run.stage("tables", None, inputs, work)
