"""Extend: a run's calibration with further inputs, or made exact, in a run of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.files import sha256
from nervecode.lab.config.packages import recalling
from nervecode.lab.inference.open import open_inputs
from nervecode.lab.inference.scored import some
from nervecode.lab.inference.source import Inputs, readable
from nervecode.lab.machine.device import choose_device
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.signals import TraceRecorder
from nervecode.lab.ranks.job import current
from nervecode.lab.run.adopt import take_trainings
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import ADDED
from nervecode.lab.run.records import require_stage
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.checkpoint import (
    Trained,
    load_calibrated,
    write_calibration,
)
from nervecode.lab.stages.columns import read_columns, write_columns
from nervecode.lab.stages.signature import Signature
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.passes.calibrating import overlap
from nervecode.scoring.exact import made_exact
from nervecode.scoring.growth import Change, changes, remarks_on_addition, with_more


def halve(run: RunDir, *, command: str) -> RunDir:
    """A new run beside this one, whose calibrations are `nervecode.scoring.exact`.

    Raises:
        InputError: they are, or have too few inputs.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
    """
    _check(run, "--exact")
    with recalling(run.meta.get("packages", {})):
        device = choose_device(run.config.device)
    trained = {seed: load_calibrated(run, seed, device=device) for seed in run.config.seeds}
    for one in trained.values():
        if one.calibrations[PRIMARY].exact:
            raise InputError(f"{run.root}: its calibration is exact already")
        for name, calibration in one.calibrations.items():
            one.signals[name].calibration = made_exact(calibration)
    return _written(run, trained, {"exact": True}, command=command)


def extend(
    run: RunDir, source: str, *, command: str, progress: Progress, skip_bad: bool = False
) -> tuple[RunDir, dict[int, list[Change]], bool]:
    """A new run beside this one, with further held-out ID inputs in the calibration of every seed.

    Args:
        run: a calibrated run; it stays as it is.
        source: the inputs, as `open_inputs` takes them.
        command: the command line, for the record.
        progress: told what is done, and what speaks against adding these inputs.
        skip_bad: leave out inputs that cannot be read, rather than refuse all.

    Returns:
        The new run, seed -> what that changes, and whether anything speaks against it.

    Raises:
        InputError: inputs that cannot be read or do not fit.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
    """
    _check(run, "--add")
    config = run.config
    with recalling(run.meta.get("packages", {})):
        shape, device = Signature.of(run).shape, choose_device(config.device)
    encoder = read_columns(run)
    inputs = open_inputs(
        source,
        shape,
        option="--add",
        encoder=encoder,
        skip_bad=skip_bad,
        resize=config.data.resize,
    )
    for remark in inputs.remarks:
        progress.tell(remark)
    grown: dict[int, Trained] = {}
    changed: dict[int, list[Change]] = {}
    doubted = False
    for seed in config.seeds:  # the new run is made when nothing can be wrong with the inputs
        grown[seed] = load_calibrated(run, seed, device=device)
        batches = readable(
            inputs,
            range(inputs.units),
            title=f"add seed {seed}",
            progress=progress,
            tell=seed == config.seeds[0],
        )
        layers, sketch = _read(grown[seed], some(batches, source))
        changed[seed], doubts = _grow(grown[seed], layers, sketch, progress)
        doubted |= doubts
    new = _written(run, grown, {"inputs": inputs.identity}, command=command)
    return new, changed, doubted


def _written(
    run: RunDir, trained: Mapping[int, Trained], made_of: Mapping[str, Any], *, command: str
) -> RunDir:
    """A new run with the trainings of a run and other calibrations."""
    new = RunDir.create(run.config, run.home.parent, command=command)
    with new.claimed():
        take_trainings(new, dict.fromkeys(run.config.seeds, run))
        write_columns(new, read_columns(run))
        for seed, one in trained.items():
            _record(run, new, seed, one, made_of)
        new.update(status="partial", **_of_its_data(run))
    return new


def _check(run: RunDir, option: str) -> None:
    if current().world > 1:
        raise InputError(f"{option}: found several processes, allowed: one")
    require_stage(run, "calibrate")


def _of_its_data(run: RunDir) -> dict[str, Any]:
    """What the metadata of a run say of the data that its calibrations are made from."""
    parts = ("id_train", "id_calibration")
    told = {
        key: {name: value for name, value in run.meta.get(key, {}).items() if name in parts}
        for key in ("datasets", "split_sizes")
    }
    known = ("num_classes", "classes", "input_shape")
    return told | {key: run.meta[key] for key in known if key in run.meta}


def _read(
    trained: Trained, batches: Iterable[Inputs]
) -> tuple[dict[str, dict[str, Tensor]], InputSketch]:
    """Signal -> layer -> readings of all inputs, and which inputs these are."""
    recorders = {name: TraceRecorder(wrapped) for name, wrapped in trained.signals.items()}
    sketch, device = InputSketch(), next(trained.model.parameters()).device
    for batch in batches:
        with torch.no_grad(), sketch.watching(trained.model), ExitStack() as stack:
            for recorder in recorders.values():
                stack.enter_context(recorder.watching())
            trained.model(batch.inputs.to(device))
    return {name: recorder.layers() for name, recorder in recorders.items()}, sketch


def _grow(
    trained: Trained,
    layers: Mapping[str, Mapping[str, Tensor]],
    sketch: InputSketch,
    progress: Progress,
) -> tuple[list[Change], bool]:
    """Put the readings into the calibrations.

    Returns:
        What that changes for the primary signal, and whether anything speaks against it.
    """
    before, after = trained.calibrations, {}
    for name, calibration in before.items():
        after[name] = trained.signals[name].calibration = with_more(calibration, layers[name])
    doubts = [
        *overlap(trained.signals[PRIMARY], sketch),
        *remarks_on_addition(before[PRIMARY], layers[PRIMARY]),
    ]
    for remark in doubts:
        progress.tell(f"--add: {remark}")
    return changes(before[PRIMARY], after[PRIMARY]), bool(doubts)


def _record(
    run: RunDir, new: RunDir, seed: int, trained: Trained, made_of: Mapping[str, Any]
) -> None:
    """Write the calibration of a seed, as a stage of the new run."""
    origin = {
        "run": run.home.name,
        "calibration": run.recorded(run.paths.calibration(seed)),
    }
    checkpoint = sha256(new.verified(new.paths.checkpoint(seed)))
    inputs = {"checkpoint": checkpoint, ADDED: {**origin, **made_of}}

    def work() -> list[Path]:
        path = new.paths.calibration(seed)
        write_calibration(path, trained.signals)
        return [path]

    new.stage("calibrate", seed, inputs, work)
