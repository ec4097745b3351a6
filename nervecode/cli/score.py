"""`nervecode score`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.options import Device, TrustCode, only
from nervecode.cli.show import next_step, progress, say, show_table

if TYPE_CHECKING:
    from nervecode.lab.inference.job import ScoringJob
    from nervecode.lab.inference.scored import Summary


def score(
    model: Annotated[
        Path, typer.Argument(help="A run directory, or a graph, FILE.onnx.", metavar="RUN")
    ],
    input: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="A folder of images, an image, a table, an array, a .ts file, tar files "
            "(x-{000..099}.tar), or a data set.",
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="FILE.csv, .jsonl or .npz.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Score part i of n alone, as in 3/10, into a file of its own."),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Flag p-values up to here.", show_default="0.05")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Keep alpha with this confidence, as 0.95; else on average alone."),
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="Instead: of the flagged, at most this fraction is ID on average."),
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="p-values within the predicted class.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Which seed's model; default the first.")] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode images; default: one per core.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images and rows that cannot be read.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Score new inputs: percentile, p-value, flag, surprise. In bits, overall and layer by layer.

    Memory does not grow with the number of inputs. Shards can be scored at the same time, on any
    machines; `nervecode merge` joins them. A graph that `nervecode export` wrote is run by ONNX
    Runtime.

    Example: nervecode score runs/digits-… --input pictures/ --output scores.csv
    """
    from nervecode.lab.inference.flags import FlagRule
    from nervecode.lab.inference.job import ScoringJob
    from nervecode.lab.inference.shards import Shard
    from nervecode.lab.watch.tail import SUFFIXES

    source = only("--input", input)
    part = None if shard is None else Shard.parse(shard)
    job = ScoringJob(
        model, source, output, part, FlagRule(alpha, confidence, fdr, by_class),
        seed=seed, device=device, workers=workers, skip_bad=skip_bad, force=force,
    )  # fmt: skip
    with progress() as shown:
        summary = job.work(shown)
    if summary is not None:
        _say_summary(job, summary)
    elif part is not None:
        say(f"shard {part.index} of {part.count} was done before; --force scores it again")
    if summary is not None and output is None:
        _show(summary)
        given = {"--alpha": alpha, "--confidence": confidence, "--fdr": fdr, "--seed": seed}
        same = [text for o, value in given.items() if value is not None for text in (o, value)]
        same += ["--by-class"] * by_class + ["--skip-bad"] * skip_bad
        next_step("score", model, "--input", source, *same, "--output", "scores.csv")
        return
    typer.echo(job.path)
    if part is not None and output is not None:
        target = shlex.quote(str(output))
        say(f"Next, with all shards: nervecode merge {part.paths(output)} --output {target}")
    elif model.is_dir() and job.path is not None and job.path.suffix in SUFFIXES:
        chosen = () if seed is None else ("--seed", seed)
        next_step("watch", job.path, "--run", model, *chosen)


def _say_summary(job: ScoringJob, summary: Summary) -> None:
    part = f", shard {job.shard.index}/{job.shard.count}" if job.shard else ""
    share = f" ({100 * summary.flagged / summary.count:.1f} %)" if summary.count else ""
    say(
        f"{summary.count} inputs from {job.input}{part}: {summary.flagged} flagged at {job.rule}"
        f"{share}; {summary.count / summary.seconds:.0f} inputs a second"
    )


def _show(summary: Summary) -> None:
    from nervecode.lab.results.table import Table

    top = summary.top
    assert top is not None
    body = [
        [
            row["id"],
            f"{row['surprise']:.1f}",
            f"{100 * row['percentile']:.1f}",
            f"{row['p_value']:.4f}",
            "yes" if row["flag"] else "",
            str(row["prediction"]),
            *[f"{row[f'bits:{name}']:.0f}" for name in top.layers],
        ]
        for row in top.rows()
    ]
    header = ["input", "surprise", "percentile (%)", "p-value", "flag", "class", *top.layers]
    caption = "the highest surprise first; the last columns are bits per layer"
    show_table(Table(f"{len(body)} of {summary.count} inputs", header, body, caption=caption))
