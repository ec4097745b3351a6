"""Exported: the model of a run, its codes and their calibration as one graph in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nervecode.files import check_new
from nervecode.lab.data.images import RULE
from nervecode.lab.data.samples import Shape
from nervecode.lab.inference.primary import identity, load_primary
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.run.directory import RunDir, chosen_seed
from nervecode.lab.run.paths import check_outside_runs
from nervecode.lab.stages.columns import read_columns
from nervecode.lab.stages.signature import Signature
from nervecode.layers.export import GRAPH_SUFFIXES, check_format

EXAMPLE = 2  # inputs that the graph is traced with


def export_run(
    run: RunDir, output: Path, *, seed: int | None = None, force: bool = False, progress: Progress
) -> dict[str, Any]:
    """Write the primary signal of a run as a graph, with the normalisation of its inputs inside.

    Args:
        run: a calibrated run.
        output: an `.onnx` or `.pt2` file.
        seed: whose model; None takes the first.
        force: replace a file that exists.
        progress: told what is to be known of the run.

    Returns:
        What the file says of itself.

    Raises:
        InputError: an output that cannot or must not be written, a seed that the run does not have,
            or a model with an operation that has no form in the graph.
        ArtifactError: the run is not calibrated, or a file is missing or damaged.
        MissingExtraError: ONNX is not installed.
    """
    check_new(output, GRAPH_SUFFIXES, what="--output", force=force)
    check_format(output)
    check_outside_runs(output)
    if run.meta["gate"]["passed"] is False:
        progress.tell(
            "the run did not pass its accuracy gate, and its figures are withheld; "
            "the graph says so as well"
        )
    wrapped, made_for = load_primary(run, seed, device="cpu")
    assert isinstance(wrapped.model, Classifier)
    about = _about(run, chosen_seed(run, seed), made_for)
    return wrapped.export(output, _example(wrapped.model, made_for.shape), metadata=about)


def _example(model: Classifier, shape: Shape) -> Tensor:
    """(2, *shape) inputs to trace with, about as far from one another as those of ID train."""
    noise = torch.randn((EXAMPLE, *shape), generator=torch.Generator().manual_seed(0))
    x = model.mean + noise * model.std
    return x.clamp(0, 1) if len(shape) == 3 else x


def _about(run: RunDir, seed: int, made_for: Signature) -> dict[str, Any]:
    """What a file says of the run that it was made of."""
    pictures = len(made_for.shape) == 3 and run.config.data.resize is None
    encoder = read_columns(run)
    return {
        "run": run.meta["run_id"],
        "config": run.recorded(run.root / "config.yaml"),
        **identity(run, seed),
        "classes": list(made_for.classes),
        "pictures": RULE if pictures else None,
        "columns": None if encoder is None else encoder.to_json(),
        "gate_passed": run.meta["gate"]["passed"],
        "demo": run.meta.get("demo", False),
    }
