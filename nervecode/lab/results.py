"""Results: the page of a study, in Markdown. Each figure comes from saved rows and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nervecode.lab.oracle import ORACLE, oracle_scores
from nervecode.lab.rows import GROUPS
from nervecode.lab.schema import PRIMARY
from nervecode.lab.statistics import Interval, over_settings
from nervecode.lab.study import Plan, Setting, Study
from nervecode.lab.tables import Table, as_markdown

COMBO = "combo_id_zscore_equal"
HEAD = """# Results

`python scripts/study.py` ran or read every setting below and wrote this page; no figure on it was
typed. AUROC x100, higher is better, OOD is the positive class. A group is the unweighted mean over
its sets, a score the mean of near and far, a figure the mean over seeds {seeds}. The rules are
those of [benchmarks](benchmarks.md): codes, feature statistics and classifiers see ID train alone,
thresholds and standardisation ID calibration alone; hyperparameters are the authors' defaults
([detectors](detectors.md)).

Settings marked *development* were looked at while the default signal was chosen, in earlier
trainings of the same classes; those marked *confirmation* were first looked at for this page.
"""


def page(plan: Plan, study: Study, ablations: Study, failed: Mapping[str, str]) -> str:
    """The whole page."""
    seeds = ", ".join(map(str, plan.seeds))
    parts = [
        HEAD.format(seeds=seeds),
        _text(claims(study)),
        _text(ranking(study)),
        "![average ranks and critical difference](images/critical_difference.png)\n",
        _text(by_setting(study)),
        _text(by_role(study)),
        _text(combinations(study)),
        *[_text(alone(one)) for one in study.settings if not one.has_near],
        *[_text(ablation(one)) for one in ablations.settings],
        _text(accuracies(ablations)),
        _text(appendix(study)),
        _text(failures([*study.settings, *ablations.settings], failed)),
    ]
    return "\n".join(parts)


def claims(study: Study) -> Table:
    """The targets, each with what was found."""
    body = [
        [c.text, c.found, "reached" if c.reached else "**not reached**"] for c in study.claims()
    ]
    return Table("Targets", ["the signal", "found", "verdict"], body)


def ranking(study: Study) -> Table:
    """Every single method over all settings."""
    ranks = study.ranks()
    methods = [m for m in study.methods if not m.startswith("combo_")]
    body = []
    for method in methods:
        figures = [_figure(study.average(method, group)) for group in (None, *GROUPS)]
        rank = f"{ranks.average[method]:.2f}" if method in ranks.average else ""
        ran = len(study.near) - study.missing(method)
        body.append([f"`{method}`", *figures, rank, f"{ran} of {len(study.near)}"])
    best = over_settings([one.mean(PRIMARY) - one.mean(study.best()) for one in study.near])
    caption = (
        f"Averages over the settings in which a method ran. `{PRIMARY}` less `{study.best()}`, the "
        f"best average of a baseline that ran everywhere: {_interval(best)}, 95 % interval when "
        f"settings are drawn anew. Friedman test that all are alike: p = {ranks.p_value:.1g}; "
        f"critical difference of ranks {ranks.critical_difference:.2f}."
    )
    header = ["method", "score", *GROUPS, "average rank", "settings"]
    return Table("Ranking over all settings", header, body, caption=caption)


def by_setting(study: Study) -> Table:
    """`nervecode` beside the best baseline of each setting."""
    body = []
    for one in study.near:
        best, near = one.best(), one.best("near")
        lead = one.lead(best)
        gap = one.mean(PRIMARY, "near") - one.mean(near, "near")
        body.append([
            one.name, one.role, f"{one.run.meta['split_sizes']['id_test']:,}",
            f"{100 * one.accuracy:.2f}",
            f"{one.mean(PRIMARY):.2f}±{one.std(PRIMARY):.2f}",
            f"{one.mean(best):.2f}±{one.std(best):.2f} `{best}`",
            _interval(lead),
            f"{one.mean(PRIMARY, 'near'):.2f}", f"{gap:+.2f} `{near}`",
            _figure(one.mean(PRIMARY, "shift")),
        ])  # fmt: skip
    header = [
        "setting", "role", "ID test", "accuracy %", "nervecode", "best baseline", "lead", "near",
        "near lead", "shift",
    ]  # fmt: skip
    caption = (
        "The best baseline is chosen per setting on the test figures, in its favour. Leads are "
        "paired, with 95 % bootstrap intervals over test inputs within each seed."
    )
    return Table("Setting by setting", header, body, caption=caption)


def by_role(study: Study) -> Table:
    """Development and confirmation settings apart."""
    body = []
    for role in dict.fromkeys(one.role for one in study.near):
        part = Study([one for one in study.near if one.role == role])
        best = part.best()
        wins = [one.mean(PRIMARY) > one.mean(one.best()) for one in part.near]
        body.append([
            role, str(len(part.near)), _figure(part.average(PRIMARY)),
            f"{part.average(best):.2f} `{best}`", f"{100 * np.mean(wins):.0f} %",
        ])  # fmt: skip
    return Table("By role", ["role", "settings", "nervecode", "best average", "wins"], body)


def combinations(study: Study) -> Table:
    """Equal-weight combinations and their members."""
    members = ["energy", "mahalanobis", PRIMARY]
    names = [*members, *[m for m in study.methods if m.startswith(COMBO)]]
    body = [
        [f"`{m}`", *[_figure(study.average(m, group)) for group in (None, *GROUPS)]] for m in names
    ]
    best = max(members, key=study.average)
    good = study.average(COMBO) >= study.average(best)
    verdict = "at least as good as" if good else "**worse than**"
    caption = f"On average `{COMBO}` is {verdict} its best member, `{best}`."
    return Table("Combinations", ["method", "score", *GROUPS], body, caption=caption)


def alone(one: Setting) -> Table:
    """A setting without near-OOD; it counts in no average."""
    groups = [g for g in GROUPS if any(row["group"] == g for row in one.rows)]
    order = sorted(one.scores, key=one.mean, reverse=True)
    body = [
        [f"`{m}`", *[_figure(one.mean(m, group)) for group in groups]]
        for m in order
        if not m.startswith("combo_")
    ]
    caption = f"Nothing near is in it. ID accuracy {100 * one.accuracy:.2f} %."
    return Table(f"{one.name}: without near-OOD", ["method", *groups], body, caption=caption)


def ablation(one: Setting) -> Table:
    """The signals of one run, which share one training."""
    names = [m for m in one.scores if m.startswith(PRIMARY)]
    body = []
    for name in sorted(names, key=one.mean, reverse=True):
        found = one.run.config.signals[name].model_dump(exclude_defaults=True)
        options = ", ".join(f"{key}: {value}" for key, value in found.items()) or "the default"
        figures = [_figure(one.mean(name, g)) if g in one.groups[name] else "" for g in GROUPS]
        body.append([options, f"{one.mean(name):.2f}±{one.std(name):.2f}", *figures])
    header = ["signal", "score", *GROUPS]
    return Table(f"Ablation {one.name}", header, body)


def accuracies(study: Study) -> Table:
    """Joint training beside post-hoc codes: accuracy, and what each recipe makes of the network."""
    body = []
    for one in study.settings:
        weight = one.run.config.train.coding_weight
        learned = {n: s for n, s in one.run.config.signals.items() if s.recipe == "v0_1_1"}
        joint = [n for n, s in learned.items() if not s.detach]
        for name in learned:
            how = f"weight {weight:g}" if joint else "post-hoc"
            figures = [100 * one.accuracy, one.mean(name), one.mean(PRIMARY)]
            body.append([one.name, f"`{name}`", how, *map(_figure, figures)])
    header = ["setting", "signal", "coding loss", "accuracy %", "score", "`nervecode` score"]
    return Table("Joint training against post-hoc codes", header, body)


def appendix(study: Study) -> Table:
    """Combinations that were fitted to OOD data: an upper bound, and no method."""
    names = [f"{ORACLE}{suffix}" for suffix in ("E+M", "E+N", "M+N", "E+M+N")]
    found = {one.name: oracle_scores(one) for one in study.near}
    body = [
        [f"`{name}`", _figure(100 * float(np.mean([scores[name] for scores in found.values()])))]
        for name in names
        if all(name in scores for scores in found.values())
    ]
    caption = (
        "Logistic regressions on the z-scores of Energy, Mahalanobis and Nervecode, fitted to half "
        "of ID test and of each OOD set and applied to the other half. They have seen OOD test "
        "data, so they are no method."
    )
    return Table("Appendix: oracles", ["combination", "score"], body, caption=caption)


def failures(settings: Iterable[Setting], failed: Mapping[str, str]) -> Table:
    """What has no figure, and why."""
    body = [[one.name, f"`{m}`", why] for one in settings for m, why in one.failures.items()]
    body += [[name, "the whole setting", why] for name, why in failed.items()]
    return Table("Failures", ["setting", "what", "reason"], body or [["none", "", ""]])


def _interval(found: Interval) -> str:
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _text(table: Table) -> str:
    return as_markdown(table) if table.body else ""
