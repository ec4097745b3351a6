"""Headline: what the README says of the study, the losses with the wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nervecode.lab.results.rows import GROUPS
from nervecode.lab.results.table import Table, as_markdown
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.claims import Target
from nervecode.lab.study.method_tables import ahead_of_best, figures, not_told_apart, parts
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study


def headline(plan: Plan, study: Study, targets: Sequence[Target], rows: int = 8) -> str:
    """The first rows of the ranking, the kinds of data, and what they are worth."""
    ranks = study.ranks()
    first = [m for m in study.methods if m in ranks.average][:rows]
    body = [[f"`{m}`", *figures(study, m), f"{ranks.average[m]:.1f}"] for m in first]
    header = ["method", "score", *GROUPS, "average rank"]
    kinds = parts(study, "", lambda setting: setting.kind)
    sure = " ".join(filter(None, (_confirmation(study), not_told_apart(ranks))))
    tables = [
        Table("", header, body, caption=f"{_worth(plan, study, targets)}\n\n{sure}"),
        Table("", kinds.header, kinds.body, caption=f"{kinds.caption} {_losses(study)}".strip()),
    ]
    return "\n".join(map(as_markdown, tables))


def clearly(setting: Setting) -> int:
    """1 where the interval of the lead over the best single baseline is above 0, -1 below, or 0."""
    lead = setting.lead(setting.best())
    return int(lead.low > 0) - int(lead.high < 0)


def _worth(plan: Plan, study: Study, targets: Sequence[Target]) -> str:
    near, best, reached = study.near, study.best(), sum(t.reached is True for t in targets)
    told = [clearly(setting) for setting in near]
    new = [setting for setting in near if setting.role == "confirmation"]
    ((data, count),) = Counter(setting.config.data.id for setting in near).most_common(1)
    shift = study.best("shift") if study.ran(PRIMARY, "shift") else None
    equally = [ahead_of_best(study, group, equally=True) for group in (None, "shift")]
    return (
        f"{len(near)} of {len(plan.settings)} settings have something near, and figures here, "
        f"{count} of them on `{data}`. Beside whichever of {len(study.rivals)} baselines is best "
        f"in the setting, `{PRIMARY}` is clearly ahead in "
        f"{told.count(1)} (the 95 % interval over inputs is above 0), clearly behind in "
        f"{told.count(-1)}, and not told apart in {told.count(0)}; its figure is the higher in "
        f"{_wins(near)}, of the confirmation settings in {_wins(new)}. Its lead on "
        f"average is {study.ahead(best)} points over `{best}`, the best of them"
        + (f", and on shift {study.ahead(shift, 'shift')} over `{shift}`" if shift else "")
        + f"; with each of {len(study.data_sets)} data sets counted equally, "
        f"{' and '.join(filter(None, equally))}. {reached} of {len(targets)} targets are reached."
    )


def _confirmation(study: Study) -> str:
    """On what the default was chosen, and the lead on what had no part in that."""
    new, old = (
        Study([setting for setting in study.near if setting.role == role])
        for role in ("confirmation", "development")
    )
    if not new.near:
        return ""
    unseen = set(new.data_sets) - set(old.data_sets)
    return (
        "The form and the weights of the default were chosen by OOD figures of *development* "
        f"settings, {len(old.near)} of the {len(study.near)}. The {len(new.near)} others, "
        f"*confirmation*, had no part in that: there its lead is {ahead_of_best(new)}; "
        f"{len(unseen)} of their {len(new.data_sets)} data sets are in no development setting."
    )


def _losses(study: Study) -> str:
    """The settings that are clearly lost, by kind of data, each kind with its worst."""
    by_kind: dict[str, list[Setting]] = {}
    for setting in study.near:
        if clearly(setting) < 0:
            by_kind.setdefault(setting.kind, []).append(setting)
    told = []
    for kind, lost in by_kind.items():
        lead, worst = min(((s.ahead(s.best()), s) for s in lost), key=lambda pair: pair[0])
        told.append(f"{kind} {len(lost)} (`{worst.name}` {lead:+.2f} to `{worst.best()}`)")
    return f"Clearly lost, with the worst of each kind: {'; '.join(told)}." if told else ""


def _wins(settings: Sequence[Setting]) -> str:
    return f"{sum(s.ahead(s.best()) > 0 for s in settings)} of {len(settings)}"
