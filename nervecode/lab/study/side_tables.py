"""Side tables of a study's page: ablations, joint training, oracles, settings, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np

from nervecode.lab.detectors.combination import COMBINED
from nervecode.lab.results.rows import GROUPS, over_seeds
from nervecode.lab.results.table import Table
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.collect import told
from nervecode.lab.study.columns import PARTS
from nervecode.lab.study.costs import Costs, identity
from nervecode.lab.study.oracle import ORACLE
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.records import CellRecord
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study
from nervecode.lab.study.trained import trainings


def ablation(setting: Setting, costs: Costs) -> Table:
    """The signals of one run, which share one training; the default first."""
    names = [m for m in setting.scores if m.startswith(PRIMARY)]
    names.sort(key=lambda m: (m != PRIMARY, -setting.mean(m)))
    prices = {name: _costs(setting, name, costs) for name in names}
    measured = any(map(any, prices.values()))
    body = []
    for name in names:
        changed = setting.config.signals[name].model_dump(exclude_defaults=True)
        options = ", ".join(f"{key}: {value}" for key, value in changed.items()) or "the default"
        ahead = f"{-setting.ahead(name):+.2f}±{_deviation(setting, name):.2f}"
        lead = "" if name == PRIMARY else ahead
        score = f"{setting.mean(name):.2f}±{setting.std(name):.2f}"
        figures = [f"{setting.mean(name, g):.2f}" if setting.has(name, g) else "" for g in GROUPS]
        body.append([options, score, lead, *figures, *prices[name][: 3 * measured]])
    told = [f"One training for all rows; ID accuracy {setting.accuracy:.2f} %."]
    if measured:
        told.append(
            "Fit and scoring take so many times a bare forward pass (`scripts/ablate_costs.py`, "
            "which takes turns); % a point: what the default costs more in scoring than this row, "
            "in percent of a bare pass, for each point of score that it is ahead; empty where it "
            "is ahead by no more than the deviation."
        )
    caption = " ".join([*told, setting.note]).strip()
    header = ["signal", "score", "over the first row", *GROUPS]
    header += ["fit", "scoring", "% a point"][: 3 * measured]
    return Table(f"{setting.role.capitalize()}: {setting.label}", header, body, caption=caption)


def _costs(setting: Setting, name: str, costs: Costs) -> list[str]:
    """Fit, scoring, and what the default costs more for each point.

    Empty where it was not measured, or on another config.
    """
    cost, first = (costs.get((setting.name, signal)) for signal in (name, PRIMARY))
    if cost is None or cost.config != identity(setting.config):
        return ["", "", ""]
    points, more = setting.ahead(name), 100 * (first.score - cost.score if first else 0)
    known = points >= 0.05 and points > _deviation(setting, name)
    price = f"{more / points:.1f}" if known and more > 0 else ""
    return ["" if cost.fit is None else f"{cost.fit:.2f}", f"{cost.score:.2f}", price]


def joint_pairs(side: Study) -> Iterator[tuple[Setting, Setting]]:
    """(joint training, the same data and network trained without codes)."""
    plain = {_task(setting): setting for setting in side.settings if not _is_joint(setting)}
    for setting in side.settings:
        if _is_joint(setting) and _task(setting) in plain:
            yield setting, plain[_task(setting)]


def joint(side: Study) -> Table:
    """Codebooks of recipe v0_1_1 trained with the task, against codes that only watch."""
    body = []
    for setting, plain in joint_pairs(side):
        for name in [m for m in setting.scores if m.startswith(PRIMARY) and plain.has(m)]:
            ours, theirs = setting.seeds(name), plain.seeds(name)
            both = [ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()]
            mean, deviation = over_seeds(both)
            change = f"{mean:+.2f}±{deviation:.2f}" if len(both) > 1 else f"{mean:+.2f}"
            body.append([
                setting.label, f"{setting.config.train.coding_weight:g}", f"`{name}`",
                f"{setting.accuracy:.2f}", f"{setting.accuracy - plain.accuracy:+.2f}",
                f"{setting.mean(name):.2f}", change,
            ])  # fmt: skip
    caption = (
        "Changes are to the same data, network and seeds trained without codes: in accuracy, and "
        "in the score, mean ± standard deviation over seeds."
    )
    header = [
        "setting", "coding weight", "signal", "accuracy %", "change", "score", "change of score",
    ]  # fmt: skip
    return Table("Joint training against post-hoc codes", header, body, caption=caption)


def oracles(study: Study) -> Table:
    """Combinations that were fitted to OOD data: an upper bound, and no method."""
    names = [f"{ORACLE}{suffix}" for suffix in ("E+M", "E+N", "M+N", "E+M+N")]
    upper_bounds = [setting.oracles for setting in study.near]
    known = [name for name in names if all(name in scores for scores in upper_bounds)]
    body = [
        [f"`{name}`", f"{float(np.mean([scores[name] for scores in upper_bounds])):.2f}"]
        for name in known
    ]
    body.append([f"`{PRIMARY}`, for comparison", f"{study.average(PRIMARY):.2f}"])
    caption = (
        f"Logistic regressions on the scores of {', '.join(COMBINED.values())}, fitted to half of "
        "ID test and of each OOD set and applied to the other half, and back. They have seen OOD "
        "test data, so they are no method and stand in no other table."
    )
    return Table("Appendix: oracles", ["combination", "score"], body, caption=caption)


def settings(finished: Sequence[Setting], trained: Sequence[Setting] = ()) -> Table:
    """What every setting is made of; those that differ in their loss alone on one row."""
    by_name = {setting.name: setting for setting in trained}
    tasks = trainings({name: setting.config for name, setting in by_name.items()})
    alike = [[setting] for setting in finished]
    alike += [[by_name[name] for name in task.values()] for task in tasks]
    header = [
        "setting", "ID", "classes held out", "network", "accuracy %", "train / calibration / test",
        *GROUPS, "code", "note",
    ]  # fmt: skip
    caption = _versions([record for some in alike for one in some for record in one.records])
    return Table("Appendix: the settings", header, list(map(_made_of, alike)), caption=caption)


def _made_of(alike: Sequence[Setting]) -> list[str]:
    setting, config = alike[0], alike[0].config
    sizes = setting.records[0].sizes  # the same for every seed
    name, rate = setting.label, f"{setting.accuracy:.2f}"
    if len(alike) > 1:
        stem = setting.name.partition(".")[0]
        rates = [one.accuracy for one in alike]
        name, rate = f"{stem}, {len(alike)} trainings", f"{min(rates):.2f} to {max(rates):.2f}"
    commits = dict.fromkeys(record.commit or "-" for one in alike for record in one.records)
    return [
        name, config.data.id, ", ".join(map(str, config.data.hold_out)),
        f"{config.model.name}, width {config.model.width}, {config.train.epochs} epochs",
        f"{rate} (gate {100 * config.bench.accuracy_gate:g})",
        " / ".join(f"{sizes[part]:,}" for part in PARTS),
        *[", ".join(s for s, group in setting.sets.items() if group == g) for g in GROUPS],
        ", ".join(commits), setting.remarks,
    ]  # fmt: skip


def _versions(records: Sequence[CellRecord]) -> str:
    """Of which commits the rows are, and what that means for the code of today."""
    commits = Counter(record.commit or "-" for record in records)
    unknown = sum(n for commit, n in commits.items() if commit == "-" or commit.endswith("-dirty"))
    last = max(records, key=lambda record: datetime.fromisoformat(record.finished))
    return (
        "Code: the commits that the rows are of, not that of this page: "
        f"{', '.join(f'`{commit}` {n} cells' for commit, n in commits.most_common())}. The last "
        f"cell was scored at {last.finished[:16]} with `{last.commit or '-'}`; what has changed "
        "since a row's commit is not in its figures, which may be others today: "
        "`git log COMMIT.. -- nervecode` shows it. "
        f"{unknown} of {len(records)} cells are of code with changes that no commit holds "
        "(`-dirty`) or of none that is known (`-`): of those it does not tell all."
    )


def failures(plan: Plan, finished: Sequence[Setting], failed: Mapping[str, str]) -> Table:
    """What has no figure, and why."""
    body = [["by plan", f"`{name}`", why] for name, why in plan.excluded.items()]
    body += [
        [setting.name, f"`{m}`", why] for setting in finished for m, why in setting.failures.items()
    ]
    body += [[s.name, "some seeds", told(s.absent)] for s in finished if s.absent]
    body += [[name, "the whole setting", why] for name, why in failed.items()]
    header = ["setting", "what", "reason"]
    return Table("Appendix: left out and failed", header, body or [["none", "", ""]])


def _deviation(setting: Setting, name: str) -> float:
    ours, theirs = setting.seeds(PRIMARY), setting.seeds(name)
    return over_seeds(ours[seed] - theirs[seed] for seed in theirs)[1]


def _is_joint(setting: Setting) -> bool:
    signals = setting.config.signals.values()
    return any(signal.recipe == "v0_1_1" and not signal.detach for signal in signals)


def _task(setting: Setting) -> str:
    train = setting.config.train.model_copy(update={"coding_weight": 0.0})
    return f"{setting.config.data} {setting.config.model} {train}"
