"""`nervecode verify`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.options import Device, Run, TrustCode
from nervecode.cli.show import next_step, progress, say
from nervecode.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir

WORDS = {
    "missing": "is missing",
    "changed": "is not as it was written",
    "stale": "was made from what has since been replaced",
    "unexpected": "was not written by the run",
    "link": "is a link or no file",
}


def verify(
    run: Run,
    expect: Annotated[
        str | None, typer.Option(help="The digest that the run must have.", metavar="DIGEST")
    ] = None,
    expect_derived: Annotated[
        str | None, typer.Option(help="The one of its pictures and page.", metavar="DIGEST")
    ] = None,
    again: Annotated[
        bool, typer.Option("--reproduce", help="Evaluate again from the checkpoints; compare.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far figures may lie apart then; 0: not one bit.")
    ] = 1e-3,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Check every file of a run against its hash. Prints one digest of it all.

    The logs, log.jsonl and run.log, grow with every command and have no hash.
    Pictures and the page, which can be made again, have a digest of their own.

    Example: nervecode verify runs/digits-… --expect 3b1f…
    """
    from nervecode.lab.config.packages import changes
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.run.meta import serves_score
    from nervecode.lab.run.verify import LOGS, verify_run

    for option, given in (("--expect", expect), ("--expect-derived", expect_derived)):
        if given is not None and not re.fullmatch("[0-9a-fA-F]{64}", given):
            raise InputError(f"{option}: found {given!r}, allowed: 64 hexadecimal digits")
    opened = RunDir(run)
    if opened.lock.is_held():
        say(f"{opened.lock.owner()} is writing to the run: this is how it stands now")
    verdict = verify_run(opened)
    lines = [f"{opened.root / fault.path}: {WORDS[fault.kind]}" for fault in verdict.faults]
    if expect is not None and expect.lower() != verdict.digest:
        lines.append(f"{opened.root}: has digest {verdict.digest}, expected: {expect}")
    if expect_derived is not None and expect_derived.lower() != verdict.derived:
        lines.append(
            f"{opened.root}: its pictures and page have digest {verdict.derived}, expected: "
            f"{expect_derived}"
        )
    about: dict[str, Any] = {"schema_version": 1, "run_dir": str(opened.root), **asdict(verdict)}
    about["status"] = opened.status
    if again and not lines:
        lines, about["largest_difference"] = _again(opened, device, tolerance)
    if as_json:
        typer.echo(json.dumps({**about, "verified": not lines}))
    elif not lines:
        typer.echo(verdict.digest)
    if lines:
        raise ArtifactError("\n".join(lines))
    say(
        f"{verdict.files} files, {verdict.bytes / 1e6:.1f} MB: all as they were written, but for "
        f"{' and '.join(LOGS)}, which grow and have no hash"
    )
    say(f"digest of its pictures and page: {verdict.derived}")
    for remark in changes(opened.meta.get("packages", {})):
        say(remark)
    if left := _left_seeds(opened):
        say(f"seeds that the config has no more, as they were left: {', '.join(map(str, left))}")
    if (why := serves_score(opened.meta)) is not None:
        say(why)
    elif opened.status not in ("complete", "gate_failed"):
        say(f"the run is {opened.status}: `{opened.command('bench')}` goes on")
    if expect is None:
        next_step("verify", run, "--expect", verdict.digest)


def _left_seeds(run: RunDir) -> list[int]:
    """The seeds of which a run has stages, though its config has them no more."""
    keys = [key for key in run.meta["stages"] if "/" in key]
    return sorted({int(key.rpartition("_")[2]) for key in keys} - {*run.meta["seeds"]})


def _again(run: RunDir, device: str | None, tolerance: float) -> tuple[list[str], float]:
    from nervecode.lab.stages.reproduce import reproduce

    with progress() as shown:
        lines, largest = reproduce(run, device=device, tolerance=tolerance, progress=shown)
    say(f"made again: the figures lie at most {largest:.2g} apart")
    return lines, largest
