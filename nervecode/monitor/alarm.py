"""Alarm: what a monitor says when the stream has left its calibration."""

from __future__ import annotations

from dataclasses import dataclass

from nervecode.monitor.bettors import WORDS


@dataclass(frozen=True)
class Alarm:
    """The stream is no longer as calibrated.

    Attributes:
        input: number of the input at which it was raised, from 1.
        since: the first input of the change, as estimated.
        log10_evidence: of the e-value at that input.
        kind: the bettor that won most: burst, rise, few, fall, spread or narrow.
        layers: the layers whose own evidence suffices, strongest first.
        predicted: the class whose inputs have changed, where that explains most; else None.
    """

    input: int
    since: int
    log10_evidence: float
    kind: str
    layers: tuple[str, ...] = ()
    predicted: int | str | None = None

    def __str__(self) -> str:
        words = f"since about input {self.since}, {WORDS[self.kind]}"
        if self.predicted is not None:
            words += f" among those taken for {self.predicted}"
        layers = f"; layers: {', '.join(self.layers)}" if self.layers else ""
        return (
            f"alarm at input {self.input}: {words} (evidence 10^{self.log10_evidence:.1f}{layers})"
        )
