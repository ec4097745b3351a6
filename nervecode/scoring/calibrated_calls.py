"""CalibratedCalls: what the calls of a calibration had in common, and which calls are like them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nervecode.core import Call
from nervecode.errors import InputError

UNMASKED = (
    "every calibration batch came with a mask of real positions, and this call with none; give it "
    "too, as mask= of score or as in calibration, all 1 where nothing is padded"
)
PRECISION = (
    "the layers ran in {} precision, and in {} at calibration, as by torch.autocast; calibrate as "
    "the model is to run"
)
AGAIN = (
    "layer {!r} ran {} times, and in calibration {} at most, as a loop of fewer steps has it; "
    "calibrate on inputs of as many"
)
ANOTHER = "layer {!r} ran, and in no batch of calibration, as a branch that was not taken there"


class CalibratedCalls(NamedTuple):
    """What all calls of a calibration had in common.

    Attributes:
        masked: whether each came with a mask of its real positions.
        mask_argument: whether the model was given these masks too, as its argument `mask`.
        precision: of autocast, as of `Call`; empty where calls differ, or it is not known.
        ran: the layers that were coded in any of them, each further run as `name#2`; None where it
            is not known.
    """

    masked: bool = False
    mask_argument: bool = False
    precision: str = ""
    ran: frozenset[str] | None = None

    def misfit(self, call: Call, layers: Iterable[str]) -> str:
        """Why a call in which these layers were coded is not like them, in words."""
        if self.masked and not call.masked:
            return UNMASKED
        if self.precision and call.precision not in ("", self.precision):
            return PRECISION.format(call.precision, self.precision)
        return self.further_run(layers)

    def further_run(self, layers: Iterable[str]) -> str:
        """Which of the layers of a call ran in none of them, or not as often, in words."""
        further = [] if self.ran is None else [name for name in layers if name not in self.ran]
        if not further:
            return ""
        name, _, run = further[-1].partition("#")
        before = sum(other.partition("#")[0] == name for other in self.ran or ())
        return AGAIN.format(name, run, before) if run and before else ANOTHER.format(name)

    def with_more(self, others: CalibratedCalls) -> CalibratedCalls:
        """Those of a calibration on further calls too.

        Raises:
            InputError: calls without a mask, or in another precision.
        """
        if self.masked and not others.masked:
            raise InputError(
                "calibrate add, mask: found batches without one, allowed: a mask of real positions "
                "with each, as before"
            )
        if self.precision and others.precision not in ("", self.precision):
            raise InputError(
                f"calibrate add: the layers ran in {others.precision} precision, allowed: "
                f"{self.precision} as before; see torch.autocast"
            )
        if self.ran is None or others.ran is None:
            return self._replace(ran=None)
        return self._replace(ran=self.ran | others.ran)

    def plain(self) -> dict[str, Any]:
        """What is known, as plain JSON values."""
        told = {key: value for key, value in self._asdict().items() if value}
        return told if self.ran is None else told | {"ran": sorted(self.ran)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> CalibratedCalls:
        """The reverse, among other values; what files from before do not tell is not known."""
        told = {key: plain[key] for key in cls._fields if key in plain}
        return cls(**told | ({"ran": frozenset(told["ran"])} if "ran" in told else {}))


UNKNOWN_CALLS = CalibratedCalls()


def common_to(calls: Sequence[CalibratedCalls]) -> CalibratedCalls:
    """What calls, of which each is told by itself, have in common."""
    precisions = {call.precision for call in calls}
    return CalibratedCalls(
        all(call.masked for call in calls),
        all(call.mask_argument for call in calls),
        precisions.pop() if len(precisions) == 1 else "",
        frozenset().union(*(call.ran or () for call in calls)),
    )
