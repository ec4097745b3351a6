"""bench: all stages over the seeds of a run, resumed where they stand, and the gated rows.

Pictures and pages are not of the lab: what comes after the tables is handed in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nervecode.errors import InputError, NervecodeError
from nervecode.files import write_text
from nervecode.lab.config.packages import changes
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.machine.device import choose_device, set_determinism
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.machine.progress import Progress
from nervecode.lab.machine.provenance import provenance
from nervecode.lab.models.build import build_model
from nervecode.lab.models.user_code import check_unchanged
from nervecode.lab.models.weights import begin
from nervecode.lab.ranks.batch_norm import normalise_together
from nervecode.lab.ranks.job import check_devices, current, local_world
from nervecode.lab.results.codebooks import collapsed
from nervecode.lab.results.rows import Gate, Row, gate_verdict, run_rows, withhold, write_rows
from nervecode.lab.results.tables import markdown
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import user_code
from nervecode.lab.run.paths import GATE_FAILED, stage_key
from nervecode.lab.schema import Config
from nervecode.lab.stages.calibrate import calibrate_seed, refuse_extended
from nervecode.lab.stages.columns import write_columns
from nervecode.lab.stages.same_data import note_data, refuse_other_data, refuse_unlike_ranks
from nervecode.lab.stages.score import score_seed
from nervecode.lab.stages.train import train_seed
from nervecode.lab.stages.trial import Trial
from nervecode.lab.trainer.batches import check_training
from nervecode.lab.trainer.trainer import Diverged
from nervecode.layers import select_layers

After = Callable[[RunDir, Progress], object]
RESULTS = ("stages", "files", "datasets")  # of the metadata: a run where none moved is as it was
STAGES: dict[str, Callable[[Trial], bool]] = {
    "train": train_seed,
    "calibrate": calibrate_seed,
    "score": score_seed,
}


@dataclass(frozen=True)
class Outcome:
    """What a bench found: its rows and the gate's verdict.

    Attributes:
        rows: without their figures where these are withheld.
        gate: accuracy of every seed, and whether all are enough.
        withheld: whether the gate was not passed, and figures were not asked for all the same.
    """

    rows: list[Row]
    gate: Gate
    withheld: bool


@dataclass(frozen=True)
class Prepared:
    """What a config needs of the machine: its data in memory, and a device."""

    splits: Splits
    device: torch.device
    guarantee: str  # what holds when the run is repeated
    remark: str | None = None  # what is to be told of the weights that training begins with


def prepare(config: Config, run: RunDir | None = None, *, trains: bool = True) -> Prepared:
    """Load the data, and find every fault of a config before anything is written.

    Args:
        config: what is wanted.
        run: that has been made, and may have been trained.
        trains: whether a new run will be trained.

    Raises:
        InputError: no such device, class, or layer; weights that do not fit, code that nobody
            trusts, a network that cannot be trained; data by path that are not those that the run
            was trained on; a run that inputs were added to.
        ArtifactError: code that is not what the run was trained with.
    """
    if run is not None:
        refuse_extended(run)
    check_unchanged(config.model.name, None if run is None else user_code(run.meta))
    device = choose_device(config.device)
    check_devices(device)
    if config.threads is not None:
        torch.set_num_threads(max(1, config.threads // local_world()))
    guarantee = set_determinism(device, wanted=config.deterministic)
    splits = build_splits(config.data, limit_eval=config.bench.limit_eval)
    if run is not None:
        refuse_other_data(run, config, splits)
    model = build_model(config.model, splits.train, splits.num_classes)
    remark = begin(config.model, model) if run is None else None
    if run is None and trains:
        check_training(model, config.train, splits.train.inputs)
    normalise_together(model)
    for name, signal in config.signals.items():
        try:
            select_layers(model, signal.layers)
        except InputError as error:
            raise InputError(f"signals.{name}.{error}") from None
    return Prepared(splits, device, guarantee, remark)


def run_stages(
    run: RunDir, prepared: Prepared, stages: tuple[str, ...], *, progress: Progress
) -> None:
    """Do stages for every seed of a run, skipping what is done; the caller has claimed the run.

    Raises:
        NervecodeError: a stage failed; the run is marked, and what is done stays.
    """
    refuse_unlike_ranks(prepared.splits)
    if current().leads:
        note_data(run, prepared.splits, stages, progress=progress)
    if prepared.remark:
        progress.tell(prepared.remark)
    for remark in changes(run.meta.get("packages", {})):
        progress.tell(remark)
    write_columns(run, prepared.splits.encoder)
    for remark in prepared.splits.remarks:
        progress.tell(f"data: {remark}")
    diverged: list[str] = []
    seeds = run.config.seeds
    parts = list(stages) * len(seeds)
    for number, seed in enumerate(seeds):
        trial = Trial(run, prepared.splits, seed, prepared.device, progress)
        try:
            for place, name in enumerate(stages, start=1 + number * len(stages)):
                progress.part(parts, place, f"seed {number + 1} of {len(seeds)}")
                if STAGES[name](trial):
                    _note_making(run, stage_key(name, seed), prepared)
                else:
                    progress.tell(f"seed {seed}: {name} was done before")
        except Diverged as error:  # the other seeds are worth having
            progress.tell(str(error))
            diverged.append(str(error))
    progress.part(parts, len(parts) + 1, "")
    if diverged:
        raise NervecodeError("\n".join(diverged))


def run_bench(
    run: RunDir,
    prepared: Prepared,
    *,
    progress: Progress,
    allow_low_accuracy: bool = False,
    after: After | None = None,
) -> Outcome | None:
    """All stages, then rows, tables and the verdict of the gate.

    Args:
        run: a run, claimed by the caller.
        prepared: data and device of its config.
        progress: told what is done.
        allow_low_accuracy: report figures of a run that did not pass its gate, marked as such.
        after: what comes after the tables, such as pictures.

    Returns:
        None in a process that follows another, whose part ends with the stages.
    """
    run_stages(run, prepared, tuple(STAGES), progress=progress)
    if not current().leads:
        return None
    gate = gate_verdict(run, run.config.seeds)
    groups = {ood.name: ood.group for ood in prepared.splits.ood}
    rows = run_rows(run, groups, gate)
    withheld = not gate["passed"] and not allow_low_accuracy
    if withheld:
        rows = withhold(rows, gate)
    about = {"gate": gate, "collapsed": collapsed(run, run.config.seeds)}
    _write_tables(run, rows, about, allow_low_accuracy)
    status = "complete" if gate["passed"] else "gate_failed"
    run.update(status=status, **about)
    if not run.config.bench.keep_features:
        shutil.rmtree(run.root / "features", ignore_errors=True)
    if after is not None:
        after(run, progress)
    return Outcome(rows, gate, withheld)


@contextmanager
def guarded(run: RunDir, config: Config | None = None) -> Iterator[None]:
    """Claim a run within the block; if that fails or is interrupted, the metadata say so.

    Another `config` than the run's takes its place first.
    """
    with run.claimed():
        before = {key: run.meta.get(key) for key in ("status", *RESULTS)}
        run.update(status="running", error=None)
        try:
            if config is not None and config != run.config:
                run.replace_config(config)
            yield
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
                stop.command = run.command("bench", *number)
            raise
        if run.meta["status"] == "running":
            done = all(run.meta.get(key) == before[key] for key in RESULTS)
            ended = before["status"] in ("complete", "gate_failed")
            run.update(status=before["status"] if done and ended else "partial")


def _note_making(run: RunDir, key: str, prepared: Prepared) -> None:
    """Enter what a stage that was just done was made with; of the run, what the last one was."""
    made: dict[str, Any] = {
        "device": {"type": prepared.device.type, "threads": torch.get_num_threads()},
        "determinism": {
            "deterministic": run.config.deterministic,
            "guarantee": prepared.guarantee,
            "seeded": ["python", "numpy", "torch", "cuda"],
        },
    }
    stages = run.meta["stages"]
    record = {**stages[key], "made_with": {**provenance(), **made}}
    run.update(stages={**stages, key: record}, **made)


def _write_tables(run: RunDir, rows: list[Row], about: dict[str, Any], allowed: bool) -> None:
    gate = about["gate"]

    def work() -> list[Path]:
        tables = run.root / "tables.md"
        write_text(tables, markdown(run.meta | about, rows))
        mark = run.root / GATE_FAILED
        if gate["passed"]:
            mark.unlink(missing_ok=True)
        else:
            write_text(mark, "ID test accuracy did not reach the gate: no OOD figure counts.\n")
        return [*write_rows(run, rows, gate), tables]

    scores = {k: v["outputs"] for k, v in run.meta["stages"].items() if k.startswith("score/")}
    inputs = {
        "scores": scores,
        "gate": gate,
        "allowed": allowed and not gate["passed"],
        "demo": run.meta["demo"],
    }
    inputs |= {"transfer": True} if run.meta.get("transfer") else {}
    run.stage("tables", None, inputs, work)
