"""StreamState: all that a monitor remembers of its stream, in memory that does not grow."""

from __future__ import annotations

import math

import numpy as np

from nervecode.monitor.alarm import Alarm
from nervecode.monitor.bettors import KINDS, prices
from nervecode.monitor.evidence import (
    Evidence,
    log_add,
    log_mean,
    log_stake,
    log_stakes,
    log_tail,
    log_tails,
)
from nervecode.monitor.ranks import Ranked
from nervecode.monitor.reference import Reference
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.ties import MASK

ALL = slice(None)
HALF = math.log(0.5)
BLOCK = 4096  # inputs that are worked on at a time
NAMES_CLASS = math.log(2)  # a class is named where it says twice what all inputs say


class StreamState:
    """Reference and evidence of the score, the classes and the layers.

    Attributes:
        inputs: how many were taken.
        restarted: after how many of them the bettors last began.
        merged: how many of them came before the last merge, 0 without one.
        salt: of the draws among ties (`ties.py`): the sum of the ranks so far.
        alarm: the latched alarm.
        reference: a row for each class, or one.
        layer_reference: a row for each layer.
        score, classes, layers: evidence of all inputs, of each class's, and of each layer.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.inputs = self.restarted = self.merged = self.salt = 0
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

    def step(self, ranked: Ranked) -> float:
        """Take one input; ln of the evidence after it. Whatever goes wrong, nothing is changed."""
        try:
            return self._step(ranked)
        except FloatingPointError:  # where NumPy was told to raise: wealths differ by hundreds
            with np.errstate(under="ignore"):
                return self._step(ranked)

    def _step(self, ranked: Ranked) -> float:
        p, row, by_layer, salt = ranked
        stake, number = 0.0, self.inputs + 1
        if self.settings.alpha is not None:
            stake = log_stake(self.inputs - self.restarted)
        if number % BLOCK == 0:
            self._check_room()
        paid = prices(p)
        log_e = self.reference.e_values(row, paid)
        score = self.score.after(0, log_e, stake, number)
        if self.settings.classes:
            own = self.classes.after(row, log_e, stake, number)
        if by_layer is not None:
            paid_by_layer = prices(by_layer)
            log_e = self.layer_reference.e_values(ALL, paid_by_layer)
            layers = self.layers.after(ALL, log_e, stake, number)
        self.inputs, self.salt = number, (self.salt + salt) & MASK
        self.reference.take(row, paid)
        self.score.put(0, score)
        if self.settings.classes:
            self.classes.put(row, own)
        if by_layer is not None:
            self.layer_reference.take(ALL, paid_by_layer)
            self.layers.put(ALL, layers)
        return self.log_evidence()

    def block(self, ranked: Ranked) -> np.ndarray:
        """Take (T,) inputs, BLOCK at most; (T,) ln of the evidence after each."""
        p, rows, by_layer, salt = ranked
        self._check_room()
        before = self.inputs - self.restarted + np.arange(len(p))
        stakes = log_stakes(before) if self.settings.alpha is not None else np.zeros(len(p))
        inputs = self.inputs + 1 + np.arange(len(p))
        self.inputs, self.salt = self.inputs + len(p), (self.salt + int(salt.sum())) & MASK
        with np.errstate(under="ignore"):
            by_class, log_e = self._by_class(prices(p), rows, stakes, inputs)
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

    def _by_class(
        self, paid: np.ndarray, rows: np.ndarray, stakes: np.ndarray, inputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(T, C) ln of each class's evidence after each input, and (T, B) their log e-values."""
        log_e = np.empty(paid.shape)
        by_class = np.tile(self.classes.means, (len(paid), 1))
        for row in np.unique(rows).tolist():
            at = np.flatnonzero(rows == row)
            log_e[at] = self.reference.block(row, paid[at])
            if self.settings.classes:
                old = self.classes.means[row]
                wealth = self.classes.block(row, log_e[at], stakes[at], inputs[at])
                held = np.concatenate([[old], log_mean(wealth)])
                by_class[:, row] = held[np.searchsorted(at, np.arange(len(paid)), side="right")]
        return by_class, log_e

    def _check_room(self) -> None:
        self.reference.check_room()
        self.layer_reference.check_room()

    def log_evidence(self) -> float:
        """Ln of the e-value: all inputs count half where classes are watched, each class half."""
        total = float(self.score.means[0])
        if self.settings.classes:
            with np.errstate(under="ignore"):
                classes = float(np.logaddexp.reduce(self.classes.means))
            total = HALF + log_add(total, classes)
        if self.settings.alpha is not None:
            total = log_add(total, log_tail(self.inputs - self.restarted))
        return total

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
