"""Report: one self-contained page about a run. No network, and no script needed to read it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nervecode.files import check_new, write_text
from nervecode.lab.results.published import published_table
from nervecode.lab.results.rows import is_withheld, read_rows
from nervecode.lab.results.table import Table
from nervecode.lab.results.tables import failures, group_table, set_table, stamp
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import derived
from nervecode.viz.claim import claim, reasons
from nervecode.viz.metric_table import metric_table
from nervecode.viz.picture import POOLED
from nervecode.viz.saved import Saved
from nervecode.viz.specimens import BAND, specimens

PAGE = "report.html"

# Kind of plot -> its title, and what it shows to those who cannot see it.
PICTURES = {
    "layerwise": (
        "Which layers were surprised, and by what",
        "For each layer: median and quartiles of the surprise of ID test and of every OOD set, "
        "the AUROC of the layer alone, and a heat map of every input, ordered by surprise.",
    ),
    "scores": (
        "Scores of ID test and of each OOD set",
        "One histogram for each OOD set over that of ID test, with the threshold that accepts "
        "95 % of ID calibration inputs.",
    ),
    "roc": (
        "ROC curves of chosen methods",
        "One panel for each OOD set: OOD caught against ID flagged; a dot where 95 % are caught.",
    ),
    "matrix": (
        "Every method on every OOD set",
        "A coloured matrix of methods by OOD sets; the cells are AUROC x100 as in the table of "
        "OOD sets above.",
    ),
    "calibration": (
        "Are the p-values what they say?",
        "Observed against expected percentiles of ID test, a histogram of its p-values, and the "
        "false-alarm rate against alpha with its 95 % interval.",
    ),
    "training": ("Training", "Task loss, coding loss and training accuracy over the epochs."),
    "codebooks": (
        "Use of the learned codebooks",
        "For each layer, the fraction of codes in use over the epochs.",
    ),
}


def write_report(run: Path, *, output: Path | None = None, force: bool = False) -> Path:
    """Write the page; returns its path.

    Args:
        run: a run whose bench has come as far as its tables.
        output: an `.html` file; None is the run's own `report.html`, which is replaced.
        force: replace an output that exists.

    Raises:
        InputError: no such run, another suffix, no such folder, or an output that exists.
        ArtifactError: a file that the page needs is missing or damaged.
    """
    path = Path(run) / PAGE if output is None else Path(output)
    if output is not None:
        check_new(path, (".html",), force=force)
    write_text(path, render_report(run))
    return path


def render_report(run: Path) -> str:
    """The page as text; the same run gives the same text. See `write_report` for errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nervecode.viz"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(RunDir(run)))


def _context(run: RunDir) -> dict[str, Any]:
    results = read_rows(run)
    rows = results["rows"]
    files = run.meta["files"] | derived(run.meta)
    files.pop(PAGE, None)
    meta = run.meta | {"gate": results["gate"], "files": files}
    withheld = is_withheld(rows)
    saved, config = Saved(run.root), run.config
    return {
        "meta": meta,
        "stamp": saved.stamp,
        "withheld": withheld,
        "claim": None if withheld else claim(meta, rows, own=tuple(config.signals)),
        "reasons": reasons(meta, saved, withheld=withheld),
        "description": config.description,
        "accuracy": {f"seed {s}": f"{100 * v:.2f} %" for s, v in meta["gate"]["accuracy"].items()},
        "ood_groups": {
            group: [name for name, its in saved.groups.items() if its == group]
            for group in dict.fromkeys(saved.groups.values())
        },
        "groups": None if withheld else group_table(meta, rows),
        "sets": None if withheld else set_table(meta, rows),
        "published": None if withheld else published_table(_title(meta), config, rows),
        "details": [] if withheld else _details(meta, rows),
        "failures": None if withheld else failures(rows),
        "pictures": _pictures(run, saved.seed),
        "collections": [] if withheld else _collections(saved),
        "otherwise": _otherwise(meta),
        "layers": [str(name) for name in saved.layerwise("id_test")["layer_names"]],
        "band": BAND,
        "seed": saved.seed,
        "config": (run.root / "config.yaml").read_text(encoding="utf-8"),
    }


def _otherwise(meta: Mapping[str, Any]) -> dict[str, str]:
    """Stage -> what it was made with where that is not what the run was, and whence it came."""
    here, told = _making(meta), {}
    for key, record in meta["stages"].items():
        words = [
            f"adopted from {hop['run_id']} on {hop['adopted']}"
            for hop in record.get("adopted_from", [])
        ]
        there = _making(record.get("made_with", {}))
        words += [f"{name} {value}" for name, value in there.items() if here.get(name) != value]
        if words:
            told[key] = ", ".join(words)
    return told


def _making(about: Mapping[str, Any]) -> dict[str, str]:
    """Versions and machine of a run or a stage, in one list; nothing where it does not say."""
    commit = about.get("git_commit")
    named = {**about.get("versions", {}), **about.get("hardware", {}), "commit": commit}
    return {name: str(value) for name, value in named.items() if value is not None}


def _title(meta: Mapping[str, Any]) -> str:
    return f"{stamp(meta)}{meta['name']}"


def _details(meta: dict[str, Any], rows: list[dict[str, Any]]) -> list[tuple[str, str, Table]]:
    """(set, group, every metric of every method) for each OOD set."""
    groups = {row["ood"]: row["group"] for row in rows}
    return [
        (ood, group, metric_table([row for row in rows if row["ood"] == ood]))
        for ood, group in groups.items()
    ]


def _pictures(run: RunDir, seed: int) -> list[dict[str, str]]:
    pictures = []
    for kind, (title, alt) in PICTURES.items():
        path = run.paths.plot(kind, seed)
        if run.recorded(path):
            data = base64.b64encode(run.verified(path).read_bytes()).decode()
            seeds = (
                f"seed {seed}" if kind not in POOLED or len(run.meta["seeds"]) < 2 else "all seeds"
            )
            pictures.append(
                {"kind": kind, "title": title, "alt": alt, "data": data, "seeds": seeds}
            )
    return pictures


def _collections(saved: Saved) -> list[dict[str, Any]]:
    """The most surprising inputs of ID test and of each OOD set."""
    sets = {"ID test": "id_test"} | {name: f"ood_{name}" for name in saved.ood}
    collections = [
        {
            "name": name,
            "group": saved.groups.get(name, ""),
            "size": len(saved.scores(split)[saved.meta["primary_method"]]),
            "specimens": specimens(saved, split),
        }
        for name, split in sets.items()
    ]
    return [collection for collection in collections if collection["specimens"]]
