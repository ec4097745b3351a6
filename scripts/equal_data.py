#!/usr/bin/env python
"""What the default and its rivals are worth where both learn from the same ID data.

    python scripts/equal_data.py RUN... [--csv rows.csv] [--shrink]

RUN are calibrated runs, as `nervecode calibrate` leaves them. By the rules rivals are fitted to ID
train, and the default is fitted to ID train and standardised on ID calibration. Beside that, here
the default is standardised on ID train, so that neither meets ID calibration; and rivals are fitted
to both parts, with their labels. A score is the mean of near and far. The best rival of a setting
is the one with the highest figure on its OOD sets, which no user could know.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nervecode.cli.show import complain, progress, say
from nervecode.errors import GateError, InputError, NervecodeError, did_you_mean, one_line
from nervecode.files import check_new, csv_text, write_text
from nervecode.lab.config.stored import config_hash
from nervecode.lab.data.samples import Samples
from nervecode.lab.detectors.registry import DETECTORS, Score
from nervecode.lab.machine.interrupt import Interrupted, listen
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features, extract
from nervecode.lab.models.signals import TraceRecorder
from nervecode.lab.results.rows import Row
from nervecode.lab.results.statistics import auroc
from nervecode.lab.results.table import Table, as_markdown
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.paths import check_outside_runs
from nervecode.lab.schema import PRIMARY
from nervecode.lab.stages.bench import Prepared, prepare
from nervecode.lab.stages.checkpoint import Trained, load_calibrated
from nervecode.lab.study.measure import lead_errors
from nervecode.lab.study.method_tables import figure
from nervecode.lab.study.records import CellRecord
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study, attempt
from nervecode.scoring.layer_calibration import LayerCalibration

COSTLY = ("odin", "adascale", "gram", "nac")
SHRUNK = ("mahalanobis", "mahalanobis++", "multi_mahalanobis", "multi_mahalanobis++")
OAS = ", OAS"  # after the name of a detector whose covariances are shrunk
TRAIN, BOTH = "ID train", "ID train + calibration"
# Comparison -> what the default has seen, and what its rivals have.
COMPARED = {
    "by the rules": (BOTH, TRAIN),
    "train alone": (TRAIN, TRAIN),
    "train + calibration": (BOTH, BOTH),
}
GROUPS = ("near", "far")

Scores = dict[str, dict[str, np.ndarray]]  # split -> method -> (N,)


class Part(NamedTuple):
    """What one pass over a split left: features, and the readings of every layer."""

    features: Features
    layers: dict[str, Tensor]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--detectors", nargs="+", metavar="NAME", help="default: the cheap ones")
    parser.add_argument("--shrink", action="store_true", help="covariances by OAS as well")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the rows of every seed")
    given = parser.parse_args()
    for name in given.detectors or ():
        if name not in DETECTORS:
            raise InputError(f"--detectors: unknown {name!r}; {did_you_mean(name, DETECTORS)}")
    if given.csv:
        check_new(given.csv, (".csv",), what="--csv", force=True)
        check_outside_runs(given.csv, "--csv")
    runs = by_name(map(RunDir, given.runs))
    with progress() as shown:

        def work(name: str) -> dict[str, Setting]:
            return measured(runs[name], given.detectors, shrink=given.shrink, progress=shown)

        seeds = [run.config.seeds for some in runs.values() for run in some]
        shown.start("equal data", sum(map(len, seeds)))
        done, failed = attempt(runs, work)
    for name, why in failed.items():
        complain(f"{name}: {why}")
    if not done:
        return 1
    studies = {name: Study([some[name] for some in done.values()]) for name in COMPARED}
    if given.csv:
        write_text(given.csv, csv_text(lines(studies)))
        say(f"Rows: {given.csv}")
    print("\n".join(map(as_markdown, (by_setting(studies), leads(studies), by_method(studies)))))
    return 1 if failed else 0


def by_name(runs: Iterable[RunDir]) -> dict[str, list[RunDir]]:
    """Setting -> its runs, which have a config in common and other seeds each."""
    found: dict[str, list[RunDir]] = {}
    for run in runs:
        some = found.setdefault(run.config.name, [])
        for other in some:
            if config_hash(other.config) != config_hash(run.config):
                told = "allowed: the config of all runs of one name"
                raise InputError(f"{run.root}: differs from {other.root}; {told}")
            if seeds := {*other.config.seeds} & {*run.config.seeds}:
                raise InputError(f"{run.root}: has seed {min(seeds)}, as {other.root} has")
        some.append(run)
    return found


def measured(
    runs: Sequence[RunDir], detectors: Sequence[str] | None, *, shrink: bool, progress: Progress
) -> dict[str, Setting]:
    """Comparison -> a setting as it comes out there, from its runs."""
    records: dict[str, list[CellRecord]] = {name: [] for name in COMPARED}
    config = runs[0].config
    names = detectors or [name for name in config.bench.detectors if name not in COSTLY]
    for run in runs:
        prepared = check(run)
        for seed in run.config.seeds:
            found = of_seed(run, seed, prepared, [*names, *(n + OAS for n in SHRUNK if shrink)])
            for name, record in found.items():
                records[name].append(record)
            progress.advance(setting=config.name)
    return {name: Setting(config.name, "", config, some) for name, some in records.items()}


def check(run: RunDir) -> Prepared:
    """The data of a run that has all that is compared."""
    signal, data = run.config.signals.get(PRIMARY), run.config.data
    if signal is None or signal.recipe != "bits":
        recipe = signal and signal.recipe
        raise InputError(f"signals.{PRIMARY}: found recipe {recipe!r}, allowed: 'bits'")
    for group in GROUPS:
        if not getattr(data, group):
            raise InputError(f"data.{group}: found no set, allowed: at least one")
    return prepare(run.config, run)


def of_seed(
    run: RunDir, seed: int, prepared: Prepared, names: Sequence[str]
) -> dict[str, CellRecord]:
    """Comparison -> what one seed gives."""
    splits, trained = prepared.splits, load_calibrated(run, seed, device=prepared.device)
    train, calibration = (passed(trained, part) for part in (splits.train, splits.calibration))
    test = passed(trained, splits.test)
    accuracy = float((test.features.predictions == test.features.labels).double().mean())
    if accuracy < run.config.bench.accuracy_gate:
        required = run.config.bench.accuracy_gate
        raise GateError(f"seed {seed}: accuracy {accuracy:.4g} < {required:.4g}")
    groups = {ood.name: ood.group for ood in splits.ood if ood.group in GROUPS}
    parts = {"id_test": test}
    parts |= {o.name: passed(trained, o.samples) for o in splits.ood if o.name in groups}
    usual = trained.calibrations[PRIMARY]
    calibrations = {TRAIN: LayerCalibration(train.layers, usual.method), BOTH: usual}
    seen = {TRAIN: train.features, BOTH: joined(train.features, calibration.features)}
    options = run.config.bench.options
    rivals = {data: fitted(seen[data], trained.model, names, options, parts) for data in seen}
    records = {}
    for name, (ours, theirs) in COMPARED.items():
        scores, failures = rivals[theirs]
        own = {s: {PRIMARY: stored(calibrations[ours].scores_of(parts[s].layers))} for s in parts}
        scores = {split: own[split] | scores[split] for split in parts}
        records[name] = record(seed, accuracy, scores, failures, groups)
    return records


def passed(trained: Trained, samples: Samples) -> Part:
    """One pass over a split."""
    recorder = TraceRecorder(trained.signals[PRIMARY])
    watching = [recorder.watching]
    features = extract(trained.model, samples, title="", watching=watching, progress=Progress())
    return Part(features, recorder.layers())


def joined(part: Features, other: Features) -> Features:
    """Two splits as one."""
    return Features(
        torch.cat([part.logits, other.logits]),
        torch.cat([part.features, other.features]),
        tuple(map(torch.cat, zip(part.blocks, other.blocks, strict=True))),
        torch.cat([part.labels, other.labels]),
        torch.cat([part.inputs, other.inputs]),
    )


def fitted(
    seen: Features,
    model: Classifier,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, float]],
    parts: Mapping[str, Part],
) -> tuple[Scores, dict[str, str]]:
    """The scores of rivals that are fitted to some features, and why others have none."""
    scores: Scores = {split: {} for split in parts}
    failures = {}
    for name in names:
        try:
            score = fit(name, seen, model, options.get(name, {}))
            found = {split: stored(score(part.features)) for split, part in parts.items()}
        except Exception as error:  # a baseline that fails is a row with its reason
            failures[name] = one_line(error)
            continue
        for split, values in found.items():
            scores[split][name] = values
    return scores, failures


def fit(name: str, seen: Features, model: Classifier, options: Mapping[str, float]) -> Score:
    """A rival, with OAS where its name says so."""
    if name.endswith(OAS):
        return with_oas(name.removesuffix(OAS), seen, model)
    return DETECTORS[name](seen, model, **options)


def stored(scores: Tensor) -> np.ndarray:
    """Scores as a run keeps them."""
    values: np.ndarray = scores.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError("its scores hold NaN or infinity")
    return values


def with_oas(name: str, seen: Features, model: Classifier) -> Score:
    """A Mahalanobis detector whose covariances are shrunk by OAS, as those of the default are."""
    single, unit = DETECTORS[name.removeprefix("multi_")], name.endswith("++")

    def views(split: Features) -> list[Features]:
        multi = name.startswith("multi_")
        return [replace(split, features=b) for b in split.blocks] if multi else [split]

    fits = [single(view, model, shrinkage=shrinkage(view, unit=unit)) for view in views(seen)]

    def score(split: Features) -> Tensor:
        return torch.stack([one(v) for one, v in zip(fits, views(split), strict=True)]).sum(0)

    return score


def shrinkage(split: Features, *, unit: bool) -> float:
    """How far OAS shrinks the covariance within classes."""
    from sklearn.covariance import OAS

    z = normalize(split.features.double(), dim=1) if unit else split.features.double()
    means = torch.stack([z[split.labels == c].mean(0) for c in split.labels.unique()])
    return float(OAS(assume_centered=True).fit((z - means[split.labels]).numpy()).shrinkage_)


def record(
    seed: int,
    accuracy: float,
    scores: Scores,
    failures: Mapping[str, str],
    groups: Mapping[str, str],
) -> CellRecord:
    """The AUROC of every method and set, and how sure the leads are, as the study keeps them."""
    inside = scores["id_test"]
    rows: list[Row] = []
    for ood, group in groups.items():
        row: Row = {"seed": seed, "ood": ood, "group": group}
        for method, values in inside.items():
            value = auroc(values, scores[ood][method])
            rows.append({**row, "method": method, "status": "ok", "auroc": value})
        for method, why in failures.items():
            rows.append({**row, "method": method, "status": "failed", "reason": why})
    sizes, errors = {"id_test": len(inside[PRIMARY])}, lead_errors(inside, scores, groups)
    return CellRecord(seed, "", "", "", "", 100 * accuracy, None, sizes, rows, errors)


def by_setting(studies: Mapping[str, Study]) -> Table:
    """Every setting, and the means of its columns."""
    body, columns = [], []
    for rules, alone, both in zip(*(study.settings for study in studies.values()), strict=True):
        names = ["", "", best(alone), best(both)]
        own = [rules.mean(PRIMARY), alone.mean(PRIMARY)]
        means = [*own, alone.mean(names[2]), both.mean(names[3])]
        ahead = [setting.ahead(best(setting)) for setting in (rules, alone, both)]
        body.append([rules.name, *map(cell, means, names), *map(signed, ahead)])
        columns.append([*means, *ahead])
    over = np.mean(columns, axis=0)
    body.append(["mean", *map(figure, over[:4]), *map(signed, over[4:])])
    header = [
        "setting", f"`{PRIMARY}`", "on train alone", "best rival, train",
        "best rival, train + calibration", *(f"ahead {name}" for name in COMPARED),
    ]  # fmt: skip
    caption = (
        "AUROC x100, mean of near and far, mean over seeds. Ahead: of whichever rival is best in "
        "the setting with those data."
    )
    return Table("Equal data", header, body, caption=caption)


def cell(mean: float, name: str) -> str:
    """A mean, and whose it is."""
    return figure(mean) + f" `{name}`" * bool(name)


def signed(lead: float) -> str:
    """A lead."""
    return f"{lead:+.2f}"


def best(setting: Setting, *, shrunk: bool = False) -> str:
    """The rival that the default is least ahead of; those with OAS count where `shrunk` says so."""
    rivals = [m for m in setting.scores if m != PRIMARY and (shrunk or not m.endswith(OAS))]
    return min(rivals, key=setting.ahead)


def leads(studies: Mapping[str, Study]) -> Table:
    """Mean lead and wins of each comparison, over all settings and those of each kind."""
    settings = next(iter(studies.values())).settings
    kinds = ("all", *dict.fromkeys(setting.kind for setting in settings))
    shrunk = (False, True) if any(m.endswith(OAS) for m in settings[0].scores) else (False,)
    body = []
    for some in shrunk:
        for kind in kinds:
            parts = [[s for s in study.settings if kind in ("all", s.kind)]
                     for study in studies.values()]  # fmt: skip
            body.append([kind + OAS * some, *chain(*(won(part, shrunk=some) for part in parts))])
    columns = ([f"ahead {name}", "wins", "clear wins, losses"] for name in studies)
    caption = (
        "Over whichever rival is best in each setting; clear: the 95 % interval over inputs is on "
        "one side of 0." + " OAS: rivals with shrunk covariances count too." * (len(shrunk) > 1)
    )
    return Table("Leads", ["settings", *chain(*columns)], body, caption=caption)


def won(settings: Sequence[Setting], *, shrunk: bool) -> list[str]:
    """Mean lead over the best rivals, wins, and what is clear of wins and losses."""
    found = [setting.lead(best(setting, shrunk=shrunk)) for setting in settings]
    wins = sum(lead.mean > 0 for lead in found)
    clear, lost = sum(lead.low > 0 for lead in found), sum(lead.high < 0 for lead in found)
    mean = signed(float(np.mean([lead.mean for lead in found])))
    return [mean, f"{wins} of {len(found)}", f"{clear}, {lost}"]


def by_method(studies: Mapping[str, Study]) -> Table:
    """What every method gains by ID calibration, and how far the default is ahead of it."""
    alone, both = studies["train alone"], studies["train + calibration"]
    body = []
    whole = [m for m in both.methods if not both.missing(m) and not alone.missing(m)]
    for method in sorted(whole, key=both.average, reverse=True):
        means = [alone.average(method), both.average(method)]
        rival = method != PRIMARY
        told = [str(study.ahead(method)) if rival else "" for study in studies.values()]
        body.append([f"`{method}`", *map(figure, means), signed(means[1] - means[0]), *told])
    lacking = sorted({*alone.methods, *both.methods} - {*whole})
    caption = f"Failed in some setting: {', '.join(lacking)}." if lacking else ""
    header = ["method", TRAIN, BOTH, "gain", *(f"`{PRIMARY}` ahead {name}" for name in COMPARED)]
    return Table("Methods", header, body, caption=caption)


def lines(studies: Mapping[str, Study]) -> list[Row]:
    """A line for each setting, seed and method, with what it makes of both parts of ID data."""
    alone, both = studies["train alone"], studies["train + calibration"]
    rows: list[Row] = []
    for pair in zip(alone.settings, both.settings, strict=True):
        for method in pair[0].scores | pair[1].scores:
            for seed in pair[0].accuracies:
                row: Row = {"setting": pair[0].name, "seed": seed, "method": method}
                for setting, data in zip(pair, ("train", "both"), strict=True):
                    for group in GROUPS:
                        known = setting.seeds(method, group) if setting.has(method, group) else {}
                        row[f"{group}_{data}"] = f"{known[seed]:.3f}" if seed in known else ""
                rows.append(row)
    return rows


def command_line() -> int:
    """The exit status of the script, whatever ends it."""
    listen()
    try:
        return main()
    except NervecodeError as error:
        complain(str(error))
        return error.exit_status
    except Interrupted as stop:
        complain(f"interrupted; `{shlex.join(['python', *sys.argv])}` begins again")
        return stop.exit_status


if __name__ == "__main__":
    sys.exit(command_line())
