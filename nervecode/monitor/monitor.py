"""Monitor: whether a stream of p-values is still what its calibration set promised."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.files import read_json, write_json
from nervecode.monitor.alarm import Alarm
from nervecode.monitor.checks import Label
from nervecode.monitor.evidence import log10_of
from nervecode.monitor.quickest import quickest
from nervecode.monitor.ranks import Ranked, StreamRanks
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.state import as_plain, check_base, from_plain, merged
from nervecode.monitor.stream import BLOCK, StreamState


class Monitor:
    """Evidence that a stream has changed, with a stated rate of false alarms, in constant memory.

    While the stream and the calibration inputs are exchangeable, P(an alarm, ever) <= `alpha`; or,
    with `run_length`, the mean number of inputs to an alarm is at least that. Both are averages
    over calibration sets. docs/mathematics.md, section 9, has the proofs; docs/monitoring.md has
    what an alarm means.

    Args:
        n_calibration: (n,) scores of the calibration inputs behind the p-values; or n alone, for a
            score that is never the same for two of them. For p-values within the predicted class
            (`ClassRanks`) a mapping class -> either: then classes are watched too.
        alpha: the probability of a false alarm, however long the stream; 0.01 unless `run_length`.
        run_length: in the place of `alpha`, the mean number of inputs to a false alarm.
        layers: names of layers that come with a p-value of their own.
        calibration: a name or hash of the calibration set, which a saved state must share.

    Raises:
        InputError: settings that make no sense, or that so few calibration inputs cannot serve.
    """

    def __init__(
        self,
        n_calibration: int | Sequence[float] | np.ndarray | Mapping[Any, Any],
        *,
        alpha: float | None = None,
        run_length: float | None = None,
        layers: Sequence[str] = (),
        calibration: str = "",
    ) -> None:
        self.settings = MonitorSettings.checked(
            n_calibration, alpha, run_length, layers, calibration
        )
        self._log_threshold = math.log(self.settings.threshold)
        self.quickest = quickest(self.settings)
        self._ranks = StreamRanks(self.settings)
        self._stream = StreamState(self.settings)

    @property
    def inputs(self) -> int:
        """How many inputs were taken, those before a restart included."""
        return self._stream.inputs

    @property
    def alarm(self) -> Alarm | None:
        """The alarm, latched until `restart`."""
        return self._stream.alarm

    @property
    def log10_evidence(self) -> float:
        """Of the evidence now, as a power of ten; 0 before any input."""
        return float(log10_of(self._stream.log_evidence()))

    @property
    def log10_threshold(self) -> float:
        """Of the evidence that raises an alarm: 1 / alpha, or the run length."""
        return self._log_threshold / math.log(10)

    @property
    def layers(self) -> dict[str, float]:
        """Layer -> log10 of its own evidence."""
        means = log10_of(self._stream.layers.means)
        return dict(zip(self.settings.layers, means.tolist(), strict=True))

    @property
    def named_layers(self) -> tuple[str, ...]:
        """The layers that have changed, strongest first.

        A layer is named at L times the threshold, so that with `alpha` the probability of ever
        naming any of the L layers falsely is at most alpha, and with `run_length` each has L times
        that run length.
        """
        return self._stream.named_layers()

    def update(
        self,
        p_value: float,
        *,
        layers: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
        predicted: Label | None = None,
    ) -> Alarm | None:
        """Take one input; the alarm, if this input raises it.

        Args:
            p_value: conformal p-value of its score, in (0, 1].
            layers: the p-value of each layer's surprise, by name or in the order of the settings.
            predicted: its predicted class, where `n_calibration` is a mapping.

        Raises:
            InputError: NaN, a p-value that the calibration never gives, or a layer or class that is
                missing or unknown. The monitor is as it was.
        """
        stream = self._stream
        ranked = self._ranks.one(
            p_value, layers, predicted, number=stream.inputs + 1, salt=stream.salt
        )
        evidence = stream.step(ranked)
        if evidence >= self._log_threshold and stream.alarm is None:
            return stream.raise_alarm()
        return None

    def update_many(
        self,
        p_values: np.ndarray,
        *,
        layers: Mapping[str, np.ndarray] | np.ndarray | None = None,
        predicted: Sequence[Label] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Take (N,) inputs in order, as N calls of `update` would.

        Args:
            p_values: (N,) conformal p-values.
            layers: (N, L), or a mapping to (N,).
            predicted: (N,) predicted classes.

        Returns:
            (N,) log10 of the evidence after each input.

        Raises:
            InputError: as `update`; none of the inputs was taken.
        """
        stream = copy.deepcopy(self._stream)
        ranked = self._ranks.many(
            p_values, layers, predicted, number=stream.inputs + 1, salt=stream.salt
        )
        evidence = [np.empty(0)]
        for start in range(0, len(ranked.p), BLOCK):
            stream, after = self._block(stream, ranked.part(start, start + BLOCK))
            evidence.append(after)
        self._stream = stream
        return np.concatenate(evidence) / math.log(10)

    def _block(self, stream: StreamState, ranked: Ranked) -> tuple[StreamState, np.ndarray]:
        """The stream with these inputs, and ln of the evidence after each of them."""
        before = copy.deepcopy(stream) if stream.alarm is None else stream
        evidence = stream.block(ranked)
        raised = np.flatnonzero(evidence >= self._log_threshold)
        if before.alarm is not None or not len(raised):
            return stream, evidence
        # Back, and up to the input that raises it, for what is to be said there; then the rest.
        first = int(raised[0]) + 1
        before.block(ranked.part(0, first))
        before.raise_alarm()
        if first < len(evidence):
            before.block(ranked.part(first, len(evidence)))
        return before, evidence

    def restart(self, *, forget: bool = False) -> None:
        """Begin to collect evidence anew, after an alarm that was looked into.

        Args:
            forget: also forget the stream, so that the reference is the calibration set alone. The
                promise then holds for a new calibration set alone, which did not raise an alarm.
        """
        if not forget:
            self._stream.restart()
            return
        inputs = self.inputs
        self._stream = StreamState(self.settings)
        self._stream.inputs = self._stream.restarted = inputs

    def state_dict(self) -> dict[str, Any]:
        """All that the monitor knows, as JSON holds it."""
        return as_plain(self._stream)

    def load_state_dict(self, state: Any, *, where: str = "state") -> None:
        """Go on where another monitor of the same settings stood.

        Args:
            state: what `state_dict` gave.
            where: what errors call it.

        Raises:
            ArtifactError: it is damaged; the monitor is as it was.
            InputError: it is of other settings or another calibration; the monitor is as it was.
        """
        self._stream = from_plain(state, self.settings, where)

    def save(self, path: str | Path) -> None:
        """Write `state_dict` as JSON; at any moment the file is whole."""
        write_json(Path(path), self.state_dict())

    def load(self, path: str | Path) -> None:
        """Take the state that `save` wrote; raises as `load_state_dict`, or where it is missing."""
        self.load_state_dict(read_json(Path(path)), where=str(path))

    def merge(self, others: Iterable[Monitor], *, base: Monitor | None = None) -> None:
        """Join the streams that other workers have watched, at a time fixed beforehand.

        References add, and the evidence is the mean of the workers', which keeps the promise
        whatever the dependence between the streams. The earliest alarm stays. Numbers of inputs
        are then those of all streams: an alarm was raised as many inputs ago as for its worker.

        Args:
            others: monitors of the same settings, each of inputs of its own.
            base: the monitor that all of them, this one too, were copies of when they began; None
                where each began without any input, and none of them has been merged before.

        Raises:
            InputError: what is no monitor, one of other settings, one that comes twice, one that
                was merged before without a base, or a base that one of them did not begin with;
                none was joined.
        """
        streams = [part._stream for part in (self, *_joined(self, others, base))]
        start = StreamState(self.settings) if base is None else base._stream
        check_base(streams, start)
        self._stream = merged(streams, start)
        if self.alarm is None and self._stream.log_evidence() >= self._log_threshold:
            self._stream.raise_alarm()


def _joined(monitor: Monitor, others: Any, base: Any) -> list[Monitor]:
    """The others, where they are monitors of the same settings, each of them once."""
    if isinstance(others, str) or not isinstance(others, Iterable):
        raise InputError(f"merge: found {others!r}, allowed: a list of monitors")
    listed: list[Monitor] = list(others)
    named = [(f"monitor {i}", other) for i, other in enumerate(listed)]
    for name, other in [*named, *([] if base is None else [("base", base)])]:
        if not isinstance(other, Monitor):
            raise InputError(f"merge: {name}: found {other!r}, allowed: a Monitor")
        if other.settings != monitor.settings:
            raise InputError(f"merge: {name}: found {other.settings}, allowed: {monitor.settings}")
    if len({id(part) for part in (monitor, *listed)}) <= len(listed):
        raise InputError("merge: found a monitor twice, allowed: each once")
    return listed
