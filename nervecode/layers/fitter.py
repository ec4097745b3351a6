"""CodeFitter: one streaming pass from activations to fitted codes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor

from nervecode.core import BatchShape, Reducer
from nervecode.core.positions import PositionSample
from nervecode.core.precision import RANK
from nervecode.core.reduce import LENGTH_POWER
from nervecode.errors import InputError, NotReadyError, check_count, check_switch
from nervecode.layers.batch.inputs import device_of
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.coder import Coder, UnseenCoder
from nervecode.layers.coders.fitted import FittedCoder
from nervecode.layers.fit.answer_fit import AnswerFit
from nervecode.layers.fit.batch_fit import BatchFit, Vectors, naming
from nervecode.layers.fit.head_fit import HeadFit
from nervecode.layers.fit.layer_fit import LayerFit
from nervecode.layers.guard.condition import Condition
from nervecode.layers.names import module_name
from nervecode.layers.watched import Watched, eager, tap
from nervecode.scoring.readings import LABEL

LEFT_OUT = (
    "fit: batch {}, of one input, is left out, since {}, as in a model that squeezes; a loader "
    "with drop_last=True gives no such batch"
)
POSITIONS = 256  # of an input that a fit by position reads, at most


class FitOptions(TypedDict, total=False):
    """What a fit can be told; see `CodeFitter`."""

    reduce: str
    length_power: float
    rank: int
    codes_per_class: int
    label_code: bool
    by_position: bool


class CodeFitter:
    """Gathers the moments of every watched layer, then replaces the coders by fitted ones.

    Args:
        watched: the model whose layers are watched.
        reduce: how an activation becomes a vector, see `nervecode.core.Reducer`.
        length_power: from 0 to 1; each vector keeps its direction, and its L2 norm is raised to
            this power. 1 leaves it as it is, 0 scales it to unit norm.
        rank: directions of a layer's covariance with a variance of their own; the others share
            one. A smaller rank is quicker, a larger one sees noise in a wide layer's last ones.
        codes_per_class: centres per class, at most, by k-means on the whitened vectors of a
            sample: the first 4096 / K of each class, so the data should be shuffled.
        label_code: code the label of the head too, where a linear layer gives the model's logits
            and labels are given; see `nervecode.core.LabelCode`.
        by_position: code every token, pixel or place by itself, fitted to at most 256 of each
            input, drawn at random, and no label of the head.

    Use: `with fitter.watching(): model(x)`, then `fitter.update(labels)`, for every batch;
    `fitter.finish()` after the last.

    Raises:
        InputError: a rank or a number of codes below 1, or an option of another kind.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        reduce: str = "mean_std",
        length_power: float = LENGTH_POWER,
        rank: int = RANK,
        codes_per_class: int = 8,
        label_code: bool = True,
        by_position: bool = False,
    ) -> None:
        for name, value in (("rank", rank), ("codes_per_class", codes_per_class)):
            check_count(name, value)
        for name, switch in (("label_code", label_code), ("by_position", by_position)):
            check_switch(name, switch)
        self.watched = watched
        tap(watched)  # of modules that were replaced since
        self.rank, self.codes_per_class = rank, codes_per_class
        chosen = {"name": reduce, "length_power": length_power, "positions": by_position}
        self.reducers = {  # a fit of before, which saw `least_ndim`, binds none
            name: Reducer(**{**watched.coder(name).reducer.spec(), **chosen, "least_ndim": None})
            for name in watched.layer_names
            if not name.endswith(LABEL)
        }
        self.head = HeadFit(watched.model, rank) if label_code and not by_position else None
        self.answer = AnswerFit(watched.model, eager(watched.model))
        self.sample = PositionSample(POSITIONS)
        self.inputs = InputSketch()
        self._layers: dict[str, LayerFit] = {}
        self._refused: dict[str, str] = {}  # why
        self._last = BatchFit(watched.model, -1)

    @contextmanager
    def watching(self, mask: Tensor | None = None) -> Iterator[None]:
        """Within the block, the model runs one batch, and each layer's vectors are kept.

        Args:
            mask: (B, ...) true at real positions, where the model's arguments do not say.
        """
        by_coder = {id(self.watched.coder(name)): r for name, r in self.reducers.items()}
        self._last = last = BatchFit(self.watched.model, self._last.number + 1)

        def read(coder: Coder, activation: Any, batch: BatchShape) -> Vectors | None:
            reducer = by_coder.get(id(coder))
            if reducer is None:
                return None
            vectors = last.read(reducer, activation, batch)
            # A later in-place operation must not change what is kept.
            same = isinstance(activation, Tensor) and vectors is activation
            return activation.clone() if same else vectors

        with ExitStack() as stack:
            stack.enter_context(self.inputs.watching(eager(self.watched.model)))
            stack.enter_context(self.answer.watching())
            vectors = stack.enter_context(self.watched.recording(read, mask=mask))
            if any(reducer.batch_dim is None for reducer in self.reducers.values()):
                stack.enter_context(last.watching_steps())
            if self.head is not None:
                stack.enter_context(self.head.watching())
            yield
        last.vectors = {name: z for name, z in vectors.items() if z is not None}

    def update(
        self, labels: Tensor | None, num_classes: int | None = None, *, output: Any = None
    ) -> None:
        """Add the batch that was watched last.

        Args:
            labels: (B,) classes below `num_classes`, of every batch or of none, which codes without
                classes.
            num_classes: K; None takes the width of the model's logits.
            output: what the call gave, where that is not what the model returned.

        Raises:
            InputError: labels that are not one for each input, or not below K; no K.
        """
        with naming(f"fit: batch {self._last.number}"):
            size = self._last.size(labels)
            if labels is not None and not len(labels):
                return  # which tells nothing: of no numbers all comparisons hold
            classes = self.answer.classes(labels, num_classes, output)
        settled, misfits = self._last.settled(self._reducer, size)
        if size == 1 and (lost := _lost(self._layers, self.head, misfits)):
            self.watched._remarks.tell(LEFT_OUT.format(self._last.number, lost), again=True)
            return
        for name, why in misfits.items():
            self._refuse(name, why)
        for name, z in settled.items():
            if name not in self._refused:
                try:
                    z, groups = self._last.rows(z, labels, self.sample)
                except InputError as error:  # a mask of other places
                    self._refuse(name, str(error))
                    continue
                with naming(f"layer {name!r}"):
                    self._layer(name, classes, z).update(z, groups)
        if self.head is not None:
            head = self.head.update(None if labels is None else classes, self.answer.heads)
            if head:
                self.watched._remarks.tell(
                    f"fit: the label of the head {head!r} is not coded: in batch "
                    f"{self._last.number} it did not run once, and on (B, D), as in those before",
                    again=True,
                )

    def _refuse(self, name: str, why: str) -> None:
        """A layer that does not fit one batch is not coded, whatever the others were."""
        self._layers.pop(name, None)
        if name not in self._refused:
            self._refused[name] = why
            self.watched._remarks.tell(f"layer {name!r} is not coded: {why}", again=True)

    def _layer(self, name: str, num_classes: int, like: Tensor) -> LayerFit:
        """The fit of a layer; `like` has as many columns as its vectors, on the same device."""
        if name not in self._layers:
            self._layers[name] = LayerFit(num_classes, like, self.codes_per_class, self.rank)
        return self._layers[name]

    # Shards

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen so far, as tensors by name; `merge` adds it to another fitter.

        Its size does not depend on how much was seen.
        """
        states = {f"layers.{name}": layer.state_dict() for name, layer in self._layers.items()}
        if self.head is not None:
            states[f"head.{self.head.name}"] = self.head.state_dict()
        states |= {f"ndims.{name}": {"seen": r.ndims_seen()} for name, r in self.reducers.items()}
        states |= {"answer": self.answer.state_dict(), "inputs": {"hashes": self.inputs.hashes}}
        return {f"{owner}.{key}": t for owner, state in states.items() for key, t in state.items()}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add what a like fitter saw of the next shard of the data.

        Shards that are merged in order give the codes of one pass over all of them, whatever
        their sizes.
        """
        states: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            owner, _, key = name.rpartition(".")
            states.setdefault(owner, {})[key] = tensor.to(device_of(self.watched.model))
        for owner, own in states.items():
            kind, _, name = owner.partition(".")
            if kind == "layers":
                self._layer(name, len(own["counts"]), own["means"]).merge(own)
            elif kind == "ndims":
                self.reducers[name].seen_ndims |= {*own["seen"].tolist()}
            elif kind == "inputs":
                self.inputs.add(own["hashes"])
            elif kind == "answer":
                self.answer.merge(own)
            elif self.head is not None:
                self.head.merge(name, own)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state, whatever was seen here."""
        self.inputs, self._layers = InputSketch(), {}
        for reducer in self.reducers.values():
            reducer.seen_ndims.clear()  # where the channels are stays as it was found
        if self.head is not None:
            self.head.stream = None
        self.merge(state)

    def finish(self) -> None:
        """Put the fitted codes in the place of the model's coders.

        Raises:
            NotReadyError: no batch was seen.
        """
        if not self._layers:
            raise NotReadyError(_nothing_coded(self.watched.layer_names, self._refused))
        coders: dict[str, Coder] = {}
        with torch.inference_mode(False), torch.no_grad():  # codes are used outside of it too
            for name, layer in self._layers.items():
                with naming(f"layer {name!r}"):
                    coders[name] = FittedCoder(layer.codes(), reducer=self._reducer(name))
            heads = {} if self.head is None else self.head.coders()
        for reducer in self.reducers.values():
            reducer.settle_all()
        for name in [name for name in self.reducers if name not in {*coders, *self._refused}]:
            coders[name] = UnseenCoder(self.reducers[name])
            self.watched._remarks.tell(
                f"fit: layer {name!r} did not run, or could not be coded, and has no code; what "
                "runs within a fused or compiled module is not seen"
            )
        for remark in self.answer.remarks(next(iter(self._layers.values())).counts):
            self.watched._remarks.tell(remark, again=True)
        self.watched.replace_coders(coders | heads)
        self.watched.answer_path, self.watched.answer_width = self.answer.path, self.answer.width
        self.watched.fit_inputs = self.inputs
        self.watched.condition = Condition.of(self.watched.model)

    def _reducer(self, name: str) -> Reducer:
        """A repeated module (`name#2`) is reduced as at its first call."""
        return self.reducers[name if name in self.reducers else module_name(name)]


def _nothing_coded(layers: Collection[str], refused: Mapping[str, str]) -> str:
    why = "".join(f"; layer {name!r}: {why}" for name, why in [*refused.items()][:1])
    return (
        "fit: no batch was seen, or none of the watched layers could be coded: "
        f"{', '.join(map(repr, layers))}{why}"
    )


def _lost(fitted: Collection[str], head: HeadFit | None, misfits: Mapping[str, str]) -> str:
    """What was fitted to earlier batches and does not fit this one, in words."""
    for name, why in misfits.items():
        if name in fitted:
            return f"layer {name!r} cannot be coded in it ({why})"
    if head is not None and head.is_fitted and not head.ran:
        return f"the head {head.name!r} is not given (B, D) in it"
    return ""
