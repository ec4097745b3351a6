"""`nervecode score`."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode import __version__
from nervecode.cli.options import Device, Run
from nervecode.cli.show import next_step, progress, say, show_table
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.inference.scored import Tally
    from nervecode.lab.inference.shards import Shard
    from nervecode.lab.inference.source import Source
    from nervecode.lab.run.directory import RunDir


def score(
    run: Run,
    input: Annotated[
        str,
        typer.Option(
            "--input",
            help="Image folder, .npy or .npz array, tar files (x-{000..099}.tar), or a data set.",
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="FILE.csv, .jsonl or .npz.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Score part i of n alone, as in 3/10, into a file of its own."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Flag p-values up to here.")] = 0.05,
    seed: Annotated[int | None, typer.Option(help="Which seed's model; default the first.")] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode images; default one a core.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable images out.")
    ] = False,
) -> None:
    """Score new inputs: percentile, p-value, flag, surprise. In bits, overall and layer by layer.

    Memory does not grow with the number of inputs. Shards can be scored at the same time, on any
    machines; `nervecode merge` joins them.

    Example: nervecode score runs/digits-… --input pictures/ --output scores.csv
    """
    from nervecode.lab.inference.distinct import distinct
    from nervecode.lab.inference.open import open_inputs
    from nervecode.lab.inference.output import check_output, write_scored
    from nervecode.lab.inference.scored import Tally, some
    from nervecode.lab.inference.scorer import check_alpha, score_source
    from nervecode.lab.inference.shards import Shard
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.stages.bench import load_primary

    check_alpha(alpha)
    part = Shard.parse(shard or "1/1")
    path = _shard_path(part, output) if shard else output
    if path is not None:
        check_output(path, force=force or bool(shard))
    found = RunDir(run)
    wrapped, shape = load_primary(found, seed, device=device)
    source = open_inputs(input, shape, skip_bad=skip_bad, workers=workers or os.cpu_count() or 1)
    part = replace(part, units=source.units, settings=_settings(found, seed, alpha, source))
    if shard and path and path.exists() and not force:
        return _keep(path, part, output)
    tally, began = Tally(), time.monotonic()
    with progress() as shown:
        chunks = score_source(wrapped, source, part.range, alpha=alpha, progress=shown)
        chunks = tally.watching(chunks if shard else some(chunks, input))
        if path is None:
            deque(chunks, maxlen=0)
        else:
            extra = part.header() if shard else None
            write_scored(distinct(chunks, path.parent), path, extra=extra, force=force)
    seconds = time.monotonic() - began
    _summary(tally, f"{input}, shard {shard}" if shard else input, alpha, seconds)
    if path is None:
        _show(tally)
        next_step("score", run, "--input", input, "--output", "scores.csv")
        return
    typer.echo(path)
    if shard:
        _then_merge(part, output)
    else:
        next_step("plot", run)


def _shard_path(part: Shard, output: Path | None) -> Path:
    if output is None:
        raise InputError("--shard: needs --output FILE.npz")
    return part.path(output)


def _settings(run: RunDir, seed: int | None, alpha: float, source: Source) -> dict[str, Any]:
    """What every score depends on: shards with other settings are of another scoring."""
    seed = run.config.seeds[0] if seed is None else seed
    return {
        "checkpoint": run.recorded(run.paths.checkpoint(seed)),
        "calibration": run.recorded(run.paths.calibration(seed)),
        "seed": seed,
        "alpha": alpha,
        "input": source.identity,
        "nervecode": __version__,
    }


def _keep(path: Path, part: Shard, output: Path | None) -> None:
    """Leave a shard as it is, if it is this one and whole."""
    if not part.is_done(path):
        raise InputError(f"--output {path}: exists, and is another or damaged; --force replaces it")
    say(f"shard {part.index} of {part.count} was done before; --force scores it again")
    typer.echo(path)
    _then_merge(part, output)


def _then_merge(part: Shard, output: Path | None) -> None:
    assert output is not None
    say(f"Next, with all shards: nervecode merge {part.paths(output)} --output {output}")


def _summary(tally: Tally, source: str, alpha: float, seconds: float) -> None:
    share = f" ({100 * tally.flagged / tally.count:.1f} %)" if tally.count else ""
    say(
        f"{tally.count} inputs from {source}: {tally.flagged} flagged at alpha {alpha:g}{share}; "
        f"{tally.count / seconds:.0f} inputs a second"
    )


def _show(tally: Tally) -> None:
    from nervecode.lab.results.tables import Table

    top = tally.top
    assert top is not None
    body = [
        [
            row["id"],
            f"{100 * row['percentile']:.1f}",
            f"{row['p_value']:.4f}",
            "yes" if row["flag"] else "",
            str(row["prediction"]),
            *[f"{row[f'bits:{name}']:.0f}" for name in top.layers],
        ]
        for row in top.rows()
    ]
    header = ["input", "percentile (%)", "p-value", "flag", "class", *top.layers]
    caption = "the most surprising first; the last columns are bits per layer"
    show_table(Table(f"{len(body)} of {tally.count} inputs", header, body, caption=caption))
