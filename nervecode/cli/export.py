"""`nervecode export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.options import Run, TrustCode
from nervecode.cli.show import next_step, progress, say


def export(
    run: Run,
    output: Annotated[Path, typer.Option(help="FILE.onnx or FILE.pt2.")],
    seed: Annotated[int | None, typer.Option(help="Which seed's model; default the first.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Write a calibrated model as one graph: inputs to flag. For a server.

    The graph holds the normalisation, the network, its codes and their calibration; the file says
    of which run they are. docs/deployment.md shows how it is served.

    Example: nervecode export runs/digits-… --output model.onnx
    """
    from nervecode.lab.inference.exported import export_run
    from nervecode.lab.run.directory import RunDir

    with progress() as shown:
        about = export_run(RunDir(run), output, seed=seed, force=force, progress=shown)
    typer.echo(output)
    say(
        f"seed {about['seed']}, {len(about['classes'])} classes, {len(about['layers'])} layers; "
        f"{about['calibration_inputs']} calibration inputs: the smallest alpha is "
        f"{about['smallest_alpha']:.2g}"
    )
    if output.suffix == ".onnx":
        next_step("score", output, "--input", "FILE")
    else:
        say("Next: torch.export.load, as in docs/deployment.md")
