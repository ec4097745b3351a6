"""`nervecode bench`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli import options
from nervecode.cli.options import ConfigFile, Device, OutDir, Overrides, Preset, Seeds
from nervecode.cli.report import make_plots, make_report
from nervecode.cli.show import next_step, progress, say, say_takeover, show_table
from nervecode.errors import GateError, InputError

if TYPE_CHECKING:
    from nervecode.lab.bench import Prepared
    from nervecode.lab.run import RunDir
    from nervecode.lab.schema import Config


def bench(
    run: Annotated[
        Path | None, typer.Argument(help="A run to go on with.", metavar="[RUN]")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    seeds: Seeds = None,
    device: Device = None,
    outdir: OutDir = Path("runs"),
    override: Overrides = None,
    limit_eval: Annotated[
        int | None, typer.Option(help="At most so many inputs per evaluated set.")
    ] = None,
    accuracy_gate: Annotated[
        float | None, typer.Option(help="ID test accuracy that every seed must reach.")
    ] = None,
    allow_low_accuracy: Annotated[
        bool, typer.Option(help="Show figures of a failed gate, marked as such.")
    ] = False,
    repair: Annotated[
        bool, typer.Option(help="Do stages again whose files are missing or damaged.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Train, calibrate and score over seeds; tables and plots; resumed where it stands.

    Example: nervecode bench --preset digits
    """
    began = time.monotonic()
    settings = {"bench.limit_eval": limit_eval, "bench.accuracy_gate": accuracy_gate}
    found, new, prepared = _open(run, preset, config, seeds, device, outdir, override, settings)
    say(f"Run: {found.root}")
    from nervecode.lab.bench import guarded, run_bench

    def work() -> Any:
        if new != found.config:
            found.replace_config(new)
        for stage in found.forget_damaged_stages() if repair else ():
            say(f"again: {stage}")
        with progress() as shown:
            outcome = run_bench(
                found, prepared, allow_low_accuracy=allow_low_accuracy, progress=shown
            )
            withheld = not outcome.gate["passed"] and not allow_low_accuracy
            plots = [] if withheld else make_plots(found, shown)
        return outcome, withheld, plots, make_report(found)

    say_takeover(found)
    outcome, withheld, plots, report = guarded(found, work)
    _report(found, outcome, as_json)
    for path in plots:
        say(f"Plot: {path}")
    say(f"Report: {report}")
    say(f"Done in {time.monotonic() - began:.0f} s. Run: {found.root}")
    if withheld:
        raise GateError(_verdict(found))
    next_step("plot", found.root, "--kind", "layerwise")


def _open(
    run: Path | None,
    preset: str | None,
    config: Path | None,
    seeds: str | None,
    device: str | None,
    outdir: Path,
    override: list[str] | None,
    settings: dict[str, Any],
) -> tuple[RunDir, Config, Prepared]:
    """The run that the arguments name, or a new one, and the config that it is to have.

    Nothing is written before all is in order.
    """
    from nervecode.lab.bench import prepare
    from nervecode.lab.run import RunDir

    if run is None:
        if preset is None and config is None:
            raise InputError("bench: give one of --preset NAME, --config FILE and RUN")
        new = options.resolve_options(preset, config, seeds, device, override, **settings).config
        prepared = prepare(new)
        return RunDir.create(new, outdir, command=options.command_line()), new, prepared
    if preset is not None or config is not None:
        raise InputError("bench: give RUN alone, or --preset NAME, or --config FILE")
    found = RunDir(run)
    assert found.config is not None  # damaged, it is an artifact's error and not the user's
    path = found.root / "config.yaml"
    new = options.resolve_options(None, path, seeds, device, override, **settings).config
    return found, new, prepare(new)


def _report(run: RunDir, outcome: Any, as_json: bool) -> None:
    from nervecode.lab.rows import document
    from nervecode.lab.tables import all_tables

    if as_json:
        typer.echo(json.dumps(document(run, outcome.rows, outcome.gate)))
        return
    for table in all_tables(run.meta, outcome.rows):
        show_table(table)


def _verdict(run: RunDir) -> str:
    gate = run.meta["gate"]
    found = ", ".join(f"seed {seed}: {value:.4g}" for seed, value in gate["accuracy"].items())
    return (
        f"accuracy gate {gate['required']:.4g} not passed ({found}); tables are withheld. "
        f"`nervecode bench {run.root} --allow-low-accuracy` shows them as failed-gate diagnostics"
    )
