"""StreamState: all that a monitor remembers of its stream, in memory that does not grow."""

from __future__ import annotations

import math

import numpy as np

from nervecode.monitor.alarm import Alarm
from nervecode.monitor.bettors import KINDS, prices
from nervecode.monitor.evidence import (
    Evidence,
    log_mean,
    log_stake,
    log_stakes,
    log_tail,
    log_tails,
)
from nervecode.monitor.reference import Reference
from nervecode.monitor.settings import MonitorSettings

ALL = slice(None)
HALF = math.log(0.5)
NAMES_CLASS = math.log(2)  # a class is named where it says twice what all inputs say


class StreamState:
    """Reference and evidence of the score, the classes and the layers.

    Attributes:
        inputs: how many were taken.
        restarted: after how many of them the bettors last began.
        alarm: the latched alarm.
        reference: a row for each class, or one.
        layer_reference: a row for each layer.
        score, classes, layers: evidence of all inputs, of each class's, and of each layer.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.inputs = self.restarted = 0
        counts = [count for _, count in settings.classes]
        self.reference = Reference(counts or [settings.n_calibration])
        self.layer_reference = Reference([settings.n_calibration] * len(settings.layers))
        self.restart()

    def restart(self) -> None:
        """The bettors begin anew; the reference keeps what it has seen."""
        self.restarted = self.inputs
        self.alarm: Alarm | None = None
        self.score = Evidence(1)
        self.classes = Evidence(len(self.settings.classes))
        self.layers = Evidence(len(self.settings.layers))

    def step(self, p: np.ndarray, row: int, by_layer: np.ndarray | None) -> float:
        """Take one input; ln of the evidence after it."""
        stake = 0.0
        if self.settings.alpha is not None:
            stake = log_stake(self.inputs - self.restarted)
        self.inputs += 1
        log_e = self.reference.step(row, prices(p))
        self.score.step(0, log_e, stake, self.inputs)
        if self.settings.classes:
            self.classes.step(row, log_e, stake, self.inputs)
        if by_layer is not None:
            log_e = self.layer_reference.step(ALL, prices(by_layer))
            self.layers.step(ALL, log_e, stake, self.inputs)
        return self.log_evidence()

    def block(self, p: np.ndarray, rows: np.ndarray, by_layer: np.ndarray | None) -> np.ndarray:
        """Take (T,) inputs; (T,) ln of the evidence after each."""
        before = self.inputs - self.restarted + np.arange(len(p))
        stakes = log_stakes(before) if self.settings.alpha is not None else np.zeros(len(p))
        inputs = self.inputs + 1 + np.arange(len(p))
        self.inputs += len(p)
        paid = prices(p)
        log_e = np.empty(paid.shape)
        by_class = np.tile(self.classes.means, (len(p), 1))
        for row in np.unique(rows).tolist():
            at = np.flatnonzero(rows == row)
            log_e[at] = self.reference.block(row, paid[at])
            if self.settings.classes:
                old = self.classes.means[row]
                wealth = self.classes.block(row, log_e[at], stakes[at], inputs[at])
                held = np.concatenate([[old], log_mean(wealth)])
                by_class[:, row] = held[np.searchsorted(at, np.arange(len(p)), side="right")]
        total = log_mean(self.score.block(0, log_e, stakes, inputs))
        for row in range(len(self.settings.layers)):
            assert by_layer is not None
            log_e = self.layer_reference.block(row, prices(by_layer[:, row]))
            self.layers.block(row, log_e, stakes, inputs)
        if self.settings.classes:
            total = HALF + np.logaddexp(total, np.logaddexp.reduce(by_class, axis=1))
        if self.settings.alpha is not None:
            total = np.logaddexp(total, log_tails(before + 1))
        return total

    def log_evidence(self) -> float:
        """Ln of the e-value: all inputs count half where classes are watched, each class half."""
        total = self.score.means[0]
        if self.settings.classes:
            total = HALF + np.logaddexp(total, np.logaddexp.reduce(self.classes.means))
        if self.settings.alpha is not None:
            total = np.logaddexp(total, log_tail(self.inputs - self.restarted))
        return float(total)

    def named_layers(self) -> tuple[str, ...]:
        """The layers whose evidence is as many times the threshold as there are layers."""
        names, means = self.settings.layers, self.layers.means
        needed = math.log(self.settings.threshold * max(1, len(names)))
        return tuple(names[i] for i in np.argsort(-means, kind="stable") if means[i] >= needed)

    def raise_alarm(self) -> Alarm:
        """Latch an alarm that says what the evidence says now."""
        evidence, row, predicted = self.score, 0, None
        if self.settings.classes:
            top = int(self.classes.means.argmax())
            if self.classes.means[top] >= self.score.means[0] + NAMES_CLASS:
                evidence, row, predicted = self.classes, top, self.settings.classes[top][0]
        leader = evidence.leader(row)
        self.alarm = Alarm(
            self.inputs,
            int(evidence.began[row, leader]),
            self.log_evidence() / math.log(10),
            KINDS[leader],
            self.named_layers(),
            predicted,
        )
        return self.alarm
