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
    plain = {_task(one): one for one in side.settings if not _is_joint(one)}
    for one in side.settings:
        if _is_joint(one) and _task(one) in plain:
            yield one, plain[_task(one)]


def _leads(study: Study) -> list[Target]:
    leads = [one.ahead(one.best()) for one in study.near]
    wins = 100 * float(np.mean([lead > 0 for lead in leads]))
    gaps = {one.name: one.ahead(one.best("near"), "near") for one in study.near}
    worst = min(gaps, key=lambda name: gaps[name])
    behind = sum(gap < -1 for gap in gaps.values())
    known = [group for group in (None, *GROUPS) if study.ran(PRIMARY, group)]
    best = {group: study.best(group) for group in known}
    ahead = {group: study.ahead(name, group).mean for group, name in best.items()}
    found = {group: f"{ahead[group]:+.2f} to `{name}`" for group, name in best.items()}
    return [
        Target("beats the best single baseline of the setting in at least 80 % of the settings",
              f"{wins:.0f} % of {len(leads)}", wins >= 80),
        Target("its average is at least 1.5 points above the best baseline's",
              found[None], ahead[None] >= 1.5),
        Target("near-OOD alone is first on average", found["near"], ahead["near"] > 0),
        Target("near-OOD is nowhere more than 1 point behind the setting's best baseline",
              f"{gaps[worst]:+.2f} on {worst}; further behind than 1 in {behind} of {len(gaps)}",
              behind == 0),
        Target("first on shift sets on average", found.get("shift", "no shift sets"),
              ahead["shift"] > 0 if "shift" in ahead else None),
    ]  # fmt: skip


def _combination(study: Study) -> Target:
    best = max(COMBINED.values(), key=study.average)
    lead = study.average(COMBINATION) - study.average(best)
    text = f"`{COMBINATION}` is at least as good as its best member on average"
    return Target(text, f"{lead:+.2f} to `{best}`", lead >= 0)


def _accuracy(study: Study) -> Iterator[Target]:
    text = "a ResNet on all ten classes of Fashion-MNIST has an accuracy of at least 93.5 %"
    for one in study.settings:
        config = one.run.config
        if config.data.id == "fashion_mnist" and not config.data.hold_out:
            worst = min(one.accuracies.values())
            found = f"{one.accuracy:.2f} %, worst seed {worst:.2f} %"
            yield Target(text, found, one.accuracy >= 93.5)
            return
    yield Target(text, "not run yet", None)


def _joint(side: Study) -> Iterator[Target]:
    text = "joint training does not lower accuracy by more than 0.3 points"
    found = {one.name: one.accuracy - plain.accuracy for one, plain in joint_pairs(side)}
    if not found:
        yield Target(text, "not run yet", None)
        return
    worst = min(found, key=lambda name: found[name])
    yield Target(text, f"{found[worst]:+.2f} points at worst, {worst}", found[worst] >= -0.3)


def _toy(side: Study) -> Iterator[Target]:
    text = "recipe v0_1_1 with its recommended settings reaches an AUROC of 0.99 on toy Gaussians"
    for one in side.settings:
        if one.run.config.data.id == "blobs":
            score = one.mean(PRIMARY) / 100
            yield Target(text, f"{score:.3f}", round(score, 2) >= 0.99)
            return
    yield Target(text, "not run yet", None)


def _is_joint(one: Setting) -> bool:
    signals = one.run.config.signals.values()
    return any(signal.recipe == "v0_1_1" and not signal.detach for signal in signals)


def _task(one: Setting) -> str:
    train = one.run.config.train.model_copy(update={"coding_weight": 0.0})
    return f"{one.run.config.data} {one.run.config.model} {train}"
