"""Claims: what is asked of the signal, what was found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nervecode.lab.detectors.combination import COMBINATION, COMBINED
from nervecode.lab.results.rows import GROUPS
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.setting import Setting
from nervecode.lab.study.study import Study


@dataclass(frozen=True)
class Target:
    """What is asked of the signal; `reached` is None where nothing has been run that could tell."""

    text: str
    found: str
    reached: bool | None


def claims(study: Study, side: Study) -> list[Target]:
    """Every target.

    Args:
        study: the benchmark matrix.
        side: ablations and reproductions.
    """
    return [*_leads(study), _combination(study), *_accuracy(study), *_joint(side), *_toy(side)]


def joint_pairs(side: Study) -> Iterator[tuple[Setting, Setting]]:
    """(joint training, the same data and network trained without codes)."""
    plain = {_task(setting): setting for setting in side.settings if not _is_joint(setting)}
    for setting in side.settings:
        if _is_joint(setting) and _task(setting) in plain:
            yield setting, plain[_task(setting)]


def _leads(study: Study) -> list[Target]:
    leads = [setting.ahead(setting.best()) for setting in study.near]
    wins = 100 * float(np.mean([lead > 0 for lead in leads]))
    gaps = {setting.name: setting.ahead(setting.best("near"), "near") for setting in study.near}
    worst = min(gaps, key=lambda name: gaps[name])
    behind = sum(gap < -1 for gap in gaps.values())
    known = [group for group in (None, *GROUPS) if study.ran(PRIMARY, group)]
    best = {group: study.best(group) for group in known}
    ahead = {group: study.ahead(name, group).mean for group, name in best.items()}
    leads_by_group = {group: f"{ahead[group]:+.2f} to `{name}`" for group, name in best.items()}
    return [
        Target("beats the best single baseline of the setting in at least 80 % of the settings",
              f"{wins:.0f} % of {len(leads)}", wins >= 80),
        Target("its average is at least 1.5 points above the best baseline's",
              leads_by_group[None], ahead[None] >= 1.5),
        Target("near-OOD alone is first on average", leads_by_group["near"], ahead["near"] > 0),
        Target("near-OOD is nowhere more than 1 point behind the setting's best baseline",
              f"{gaps[worst]:+.2f} on {worst}; further behind than 1 in {behind} of {len(gaps)}",
              behind == 0),
        Target("first on shift sets on average", leads_by_group.get("shift", "no shift sets"),
              ahead["shift"] > 0 if "shift" in ahead else None),
    ]  # fmt: skip


def _combination(study: Study) -> Target:
    best = max(COMBINED.values(), key=study.average)
    lead = study.average(COMBINATION) - study.average(best)
    text = f"`{COMBINATION}` is at least as good as its best member on average"
    return Target(text, f"{lead:+.2f} to `{best}`", lead >= 0)


def _accuracy(study: Study) -> Iterator[Target]:
    text = "a ResNet on all ten classes of Fashion-MNIST has an accuracy of at least 93.5 %"
    for setting in study.settings:
        config = setting.config
        if config.data.id == "fashion_mnist" and not config.data.hold_out:
            worst = min(setting.accuracies.values())
            figure = f"{setting.accuracy:.2f} %, worst seed {worst:.2f} %"
            yield Target(text, figure, setting.accuracy >= 93.5)
            return
    yield Target(text, "not run yet", None)


def _joint(side: Study) -> Iterator[Target]:
    text = "joint training does not lower accuracy by more than 0.3 points"
    changes = {
        setting.name: setting.accuracy - plain.accuracy for setting, plain in joint_pairs(side)
    }
    if not changes:
        yield Target(text, "not run yet", None)
        return
    worst = min(changes, key=lambda name: changes[name])
    yield Target(text, f"{changes[worst]:+.2f} points at worst, {worst}", changes[worst] >= -0.3)


def _toy(side: Study) -> Iterator[Target]:
    text = "recipe v0_1_1 with its recommended settings reaches an AUROC of 0.99 on toy Gaussians"
    for setting in side.settings:
        if setting.config.data.id == "blobs":
            score = setting.mean(PRIMARY) / 100
            yield Target(text, f"{score:.3f}", round(score, 2) >= 0.99)
            return
    yield Target(text, "not run yet", None)


def _is_joint(setting: Setting) -> bool:
    signals = setting.config.signals.values()
    return any(signal.recipe == "v0_1_1" and not signal.detach for signal in signals)


def _task(setting: Setting) -> str:
    train = setting.config.train.model_copy(update={"coding_weight": 0.0})
    return f"{setting.config.data} {setting.config.model} {train}"
