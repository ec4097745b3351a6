"""Trained: tasks under several losses, and how far our score is ahead after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nervecode.errors import InputError
from nervecode.lab.results.compare import paired
from nervecode.lab.results.statistics import Interval
from nervecode.lab.schema import NO_LOSS, PRIMARY, Config
from nervecode.lab.study.setting import Setting, over_common_seeds
from nervecode.lab.study.study import Study

PLAIN = "cross_entropy"
RIVALS = ("logit_norm", "t2f_norm", "cider")  # trained so that OOD inputs stand out
LOSS_KEYS = {"loss", "loss_options", "coding_loss", "coding_layers", "coding_weight"}

Pair = tuple[str, str]
"""A loss, and the method that is used after it."""


class Lead(NamedTuple):
    """Points of our score above the best of so many rivals, with an interval over seeds."""

    points: Interval
    rivals: int

    def __str__(self) -> str:
        some = "" if self.rivals == len(RIVALS) else f" ({self.rivals} of {len(RIVALS)})"
        return f"{self.points}{some}"


@dataclass(frozen=True)
class TrainedTask:
    """One task that was trained with several losses.

    Attributes:
        name: of its plain setting, without `.plain`.
        by_loss: loss -> the setting that was trained with it, the plain one among them.
    """

    name: str
    by_loss: Mapping[str, Setting]

    @property
    def data_set(self) -> str:
        """Its ID data set, which other tasks may share."""
        return next(iter(self.by_loss.values())).config.data.id

    def has(self, loss: str, method: str = PRIMARY) -> bool:
        """Whether a method has a figure after a loss."""
        return loss in self.by_loss and self.by_loss[loss].has(method)

    def gain(self, loss: str, method: str, group: str | None = None) -> float:
        """Points of a method after a loss above itself after plain training.

        Over the seeds that both have; NaN where there are none.
        """
        if not self.has(PLAIN, method):
            return float("nan")
        return over_common_seeds(*(self.by_loss[n].seeds(method, group) for n in (loss, PLAIN)))

    def accuracy_gain(self, loss: str) -> float:
        """Points of accuracy above plain training."""
        return over_common_seeds(*(self.by_loss[n].accuracies for n in (loss, PLAIN)))

    def lead(self, loss: str, rivals: Sequence[Pair]) -> Lead | None:
        """Our score after a loss beside the best rival, over common seeds; None without either.

        The rows tell no error over inputs between two trainings: the interval is Student's, over
        seeds, in pairs.
        """
        if not self.has(loss):
            return None
        ours = self.by_loss[loss].seeds(PRIMARY)
        theirs = [self.by_loss[n].seeds(method) for n, method in rivals if self.has(n, method)]
        leads = [lead for seeds in theirs if (lead := paired(ours, seeds)) is not None]
        if not leads:
            return None
        least = min(leads, key=lambda lead: lead.mean)
        return Lead(Interval(least.mean, least.low, least.high), len(leads))


def tasks_of(study: Study) -> list[TrainedTask]:
    """The settings that differ in their loss alone, together.

    Those that share no seed with a plain one do not count.

    Raises:
        InputError: two of them have one loss.
    """
    settings = {setting.name: setting for setting in study.near}
    tasks = []
    for names in trainings({name: setting.config for name, setting in settings.items()}):
        by_loss = {loss: settings[name] for loss, name in names.items()}
        if plain := by_loss.get(PLAIN):
            seeds = plain.accuracies.keys()
            some = {n: s for n, s in by_loss.items() if seeds & s.accuracies.keys()}
            tasks.append(TrainedTask(plain.label.replace(".plain", "", 1), some))
    return tasks


def trainings(configs: Mapping[str, Config]) -> list[dict[str, str]]:
    """Task by task: loss -> the setting that is trained with it.

    Args:
        configs: setting -> its config.

    Raises:
        InputError: two settings that differ in nothing else have one loss, so that one of them
            would stand for both.
    """
    tasks: dict[str, dict[str, str]] = {}
    for name, config in configs.items():
        train = config.train.model_dump(exclude=LOSS_KEYS)
        names = tasks.setdefault(f"{config.data} {config.model} {train}", {})
        loss = loss_of(config)
        if loss in names:
            told = (
                f"found two settings of one task with the loss {loss!r}: {names[loss]} and {name}"
            )
            raise InputError(f"{told}, allowed: one")
        names[loss] = name
    return list(tasks.values())


def loss_of(config: Config) -> str:
    """What is trained with: the loss in bits where there is one, else that of the task."""
    train = config.train
    return train.loss if train.coding_loss == NO_LOSS else train.coding_loss


def losses(tasks: Sequence[TrainedTask]) -> list[str]:
    """Every loss, the plain one first."""
    names = dict.fromkeys(loss for task in tasks for loss in task.by_loss)
    return sorted(names, key=lambda loss: loss != PLAIN)


def joint_losses(tasks: Sequence[TrainedTask]) -> list[str]:
    """The losses in bits."""
    configs = [setting.config for task in tasks for setting in task.by_loss.values()]
    joint = [config for config in configs if config.train.coding_loss != NO_LOSS]
    return list(dict.fromkeys(map(loss_of, joint)))


def best_detector(tasks: Sequence[TrainedTask], loss: str) -> str:
    """The baseline with the highest average score after a loss; one that ran in all its tasks."""
    part = Study([task.by_loss[loss] for task in tasks if loss in task.by_loss])
    return max(part.complete or part.rivals, key=part.average)


def rivals(tasks: Sequence[TrainedTask]) -> list[Pair]:
    """What is trained so that OOD inputs stand out, with the detector that is best after it."""
    run = [loss for loss in RIVALS if any(loss in task.by_loss for task in tasks)]
    return [(loss, best_detector(tasks, loss)) for loss in run]
