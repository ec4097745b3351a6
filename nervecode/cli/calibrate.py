"""`nervecode calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.options import Run, TrustCode, command_line, only
from nervecode.cli.several import several
from nervecode.cli.show import next_step, progress, results_alone, say, show_table
from nervecode.cli.stage import do_stage
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir

SHOWN = (0.05, 0.01)  # alphas whose false alarms are told


@several
def calibrate(
    run: Run,
    add: Annotated[
        list[str] | None,
        typer.Option(
            help="Held-out ID inputs, as of score --input, for the calibration of a new run."
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Split conformal p-values, at half the number, of a new run."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Of --add: leave out inputs that cannot be read.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Fit and calibrate the codes of a trained run. For every seed.

    With --add the run stays as it is, and a new one beside it has more calibration inputs. Add
    inputs drawn at random, never those that a flag let pass. With --exact one half of the
    calibration inputs makes the score of the new run, and the other ranks it, so that p-values and
    monitors keep their promise whatever the data are.

    Example: nervecode calibrate runs/digits-…
    """
    from nervecode.lab.run.records import require_stage
    from nervecode.lab.run.shared import open_shared
    from nervecode.lab.stages.bench import prepare

    opened = open_shared(run)
    if skip_bad and add is None:
        raise InputError("--skip-bad: found without --add, allowed: with --add INPUTS")
    if exact:
        _halve(opened, add)
        return
    if add is not None:
        _extend(opened, only("--add", add), skip_bad=skip_bad)
        return
    require_stage(opened, "train")
    with results_alone():
        prepared = prepare(opened.config, opened)
    do_stage(opened, prepared, "calibrate")
    _say_promises(opened)
    for seed in opened.config.seeds:
        typer.echo(opened.paths.calibration(seed))
    next_step("bench", run)


def _halve(run: RunDir, add: list[str] | None) -> None:
    from nervecode.lab.inference.extend import halve

    if add is not None:
        raise InputError(
            "--add and --exact: found both, allowed: one; add to the run that --exact makes"
        )
    new = halve(run, command=command_line())
    _say_promises(new)
    typer.echo(new.root)
    next_step("score", new.root, "--input", "FILE")


def _say_promises(run: RunDir) -> None:
    from nervecode.lab.ranks.job import current
    from nervecode.lab.stages.checkpoint import load_calibration
    from nervecode.scoring.false_alarms import promise

    if not current().leads:
        return
    sizes = {load_calibration(run, seed).num_samples for seed in run.config.seeds}
    for n in sorted(sizes):
        for alpha in SHOWN:
            if alpha * (n + 1) >= 1:
                say(promise(n, alpha))


def _extend(run: RunDir, source: str, *, skip_bad: bool) -> None:
    from nervecode.lab.inference.extend import extend
    from nervecode.lab.results.table import Table

    with progress() as shown:
        new, changed, doubted = extend(
            run, source, command=command_line(), progress=shown, skip_bad=skip_bad
        )
    body = [
        [str(seed), f"{c.alpha:g}", *(f"{100 * share:.1f}" for share in c[1:])]
        for seed, rows in changed.items()
        for c in rows
    ]
    header = ["seed", "alpha", "added, before (%)", "added, now (%)", "those of before, now (%)"]
    caption = "about 100 alpha % is usual; more of those added, before, says that they are other "
    caption += "inputs, and far fewer now that such inputs are let pass from here on"
    show_table(Table("Flagged", header, body, caption=caption))
    if doubted:
        say("what follows holds only if the remarks on the added inputs do not apply:")
    _say_promises(new)
    typer.echo(new.root)
    next_step("score", new.root, "--input", "FILE")
