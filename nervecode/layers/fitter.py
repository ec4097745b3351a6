"""CodeFitter: streaming passes from activations to fitted codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nervecode.core import ClassMoments, LabelCode, Reducer
from nervecode.core.centres import PASSES, Centres, Reservoir
from nervecode.core.moments import MomentStream
from nervecode.core.precision import RANK, Precision
from nervecode.errors import InputError, NotReadyError
from nervecode.layers.coder import Coder, FittedCoder, LabelCoder
from nervecode.layers.names import module_name
from nervecode.layers.select import SHORTCUTS
from nervecode.scoring.code_length import LABEL

if TYPE_CHECKING:
    from nervecode.layers.wrap import WrappedModel


class CodeFitter:
    """Gathers the moments of every watched layer, then replaces the coders by fitted ones.

    Args:
        wrapped: the model whose layers are watched.
        reduce: how an activation becomes a vector, see `nervecode.core.Reducer`.
        unit_norm: scale each vector to unit L2 norm.
        rank: directions with a variance of their own, see `nervecode.core.GaussianCode`.
        codes_per_class: centres per class; more than one takes further passes.
        label_code: code the label of the head too, where there is one.

    Use: `with fitter.watching(): model(x)`, then `fitter.update(labels, num_classes)`, for every
    batch; `fitter.end_pass()` after the last; all of it `fitter.passes` times; `fitter.finish()`.

    Raises:
        InputError: a rank or a number of codes below 1.
    """

    def __init__(
        self,
        wrapped: WrappedModel,
        *,
        reduce: str = "mean_std",
        unit_norm: bool = False,
        rank: int = RANK,
        codes_per_class: int = 1,
        label_code: bool = True,
    ) -> None:
        for name, value in (("rank", rank), ("codes_per_class", codes_per_class)):
            if value < 1:
                raise InputError(f"{name}: found {value}, allowed: at least 1")
        self.wrapped = wrapped
        self.rank = rank
        self.codes_per_class = codes_per_class
        chosen = {"name": reduce, "unit_norm": unit_norm}
        self.reducers = {
            name: Reducer(**{**wrapped.coder(name).reducer.spec(), **chosen})
            for name in wrapped.layer_names
            if not name.endswith(LABEL)
        }
        self.head = _Head(wrapped.model, rank) if label_code else None
        self._layers: dict[str, _LayerFit] = {}
        self._vectors: dict[str, Tensor] = {}

    @property
    def passes(self) -> int:
        """How often the data must be gone over."""
        return 1 if self.codes_per_class == 1 else 1 + PASSES

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, the model runs one batch, and each layer's vectors are kept."""
        by_coder = {id(self.wrapped.coder(name)): r for name, r in self.reducers.items()}

        def reduce(coder: Coder, activation: Any) -> Tensor | None:
            reducer = by_coder.get(id(coder))
            return None if reducer is None else reducer(activation)

        with ExitStack() as stack:
            vectors = stack.enter_context(self.wrapped.recording(reduce))
            if self.head is not None:
                stack.enter_context(self.head.watching())
            yield
        self._vectors = {name: z for name, z in vectors.items() if z is not None}

    def update(self, labels: Tensor | None, num_classes: int) -> None:
        """Add the batch that was watched last.

        Args:
            labels: (B,) classes below `num_classes`; None codes without classes.
            num_classes: K.
        """
        for name, z in self._vectors.items():
            groups = z.new_zeros(len(z), dtype=torch.long) if labels is None else labels
            if name not in self._layers:
                self._layers[name] = _LayerFit(num_classes, self.codes_per_class)
            self._layers[name].update(z, groups)
        if self.head is not None:
            self.head.update(None if labels is None else num_classes)

    # Shards

    def state_dict(self) -> dict[str, Tensor]:
        """What this pass has seen so far, as tensors by name; `merge` adds it to another fitter.

        Its size does not depend on how much was seen.
        """
        states = {f"layers.{name}": layer.state_dict() for name, layer in self._layers.items()}
        if self.head is not None:
            states["head"] = self.head.state_dict()
        return {f"{owner}.{key}": t for owner, state in states.items() for key, t in state.items()}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add what a like fitter saw of the next shard of the data, in the same pass.

        Shards that are merged in order give the codes of one pass over all of them, whatever
        their sizes. Several passes: merge, `end_pass`, and give every shard's fitter
        `load_state_dict` of the merged state before its own `end_pass`.
        """
        states: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            owner, _, key = name.rpartition(".")
            states.setdefault(owner, {})[key] = tensor.to(self.wrapped._device)
        if self.head is not None:
            self.head.merge(states.pop("head", {}))
        for owner, one in states.items():
            name = owner.removeprefix("layers.")
            if name not in self._layers:
                self._layers[name] = _LayerFit(len(one["counts"]), self.codes_per_class)
            self._layers[name].merge(one)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state, whatever this pass has seen itself."""
        for layer in self._layers.values():
            layer.begin()
        if self.head is not None:
            self.head.begin()
        self.merge(state)

    def end_pass(self) -> None:
        """All data have been seen once more.

        Raises:
            NotReadyError: no batch was seen in this pass.
        """
        if not self._layers or any(layer.moments is None for layer in self._layers.values()):
            raise NotReadyError(
                "fit: the loader gave no batch, or no watched layer ran; several codes per class "
                "need a loader that can be gone over again"
            )
        for layer in self._layers.values():
            layer.end_pass(self.rank)
        if self.head is not None:
            self.head.complete = True

    def finish(self) -> None:
        """Put the fitted codes in the place of the model's coders."""
        coders: dict[str, Coder] = {
            name: FittedCoder.from_moments(
                layer.fitted, reducer=self._reducer(name), rank=self.rank
            )
            for name, layer in self._layers.items()
        }
        if self.head is not None:
            coders |= self.head.coders()
        self.wrapped.replace_coders(coders)

    def _reducer(self, name: str) -> Reducer:
        """A repeated module (`name#2`) is reduced as at its first call."""
        return self.reducers[name if name in self.reducers else module_name(name)]


class _LayerFit:
    """One layer: moments per class in the first pass, per centre in those that follow."""

    def __init__(self, num_classes: int, codes_per_class: int) -> None:
        self.num_classes = num_classes
        self.codes_per_class = codes_per_class
        self.centres: Centres | None = None
        self.fitted: ClassMoments  # of the last complete pass
        self.begin()

    def begin(self) -> None:
        """Nothing has been seen in this pass."""
        several = self.codes_per_class > 1 and self.centres is None
        self.reservoir = Reservoir(self.num_classes, self.codes_per_class if several else 0)
        self.moments: MomentStream | None = None

    def update(self, z: Tensor, groups: Tensor) -> None:
        if self.centres is None:
            self.reservoir.add(z, groups)
        else:
            groups = self.centres.nearest(z, groups)
        self._stream(z).add(z, groups)

    def _stream(self, like: Tensor) -> MomentStream:
        """The moments of the pass under way; `like` has as many columns, on the same device."""
        if self.moments is None:
            groups = self.num_classes * (1 if self.centres is None else self.codes_per_class)
            self.moments = MomentStream(groups, like.shape[1], device=like.device)
        return self.moments

    def state_dict(self) -> dict[str, Tensor]:
        if self.moments is None:
            return {}
        moments = self.moments.moments
        vectors, groups = self.reservoir.held(moments.means)
        return {**vars(moments), "first": vectors, "first_groups": groups}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        moments = ClassMoments(state["counts"], state["means"], state["scatter"])
        self.reservoir.add(state["first"], state["first_groups"])
        self._stream(moments.means).merge(moments)

    def end_pass(self, rank: int) -> None:
        assert self.moments is not None
        self.fitted = self.moments.moments
        if self.codes_per_class > 1 and self.centres is None:
            first = self.reservoir.first(self.fitted.means)
            self.centres = Centres(first, Precision.within(self.fitted, rank))
        elif self.centres is not None:
            self.centres.move(self.fitted)
        self.begin()


class _Head:
    """The moments of the head's features, over the first pass."""

    def __init__(self, model: nn.Module, rank: int) -> None:
        linear = SHORTCUTS["all_linear"](model)
        self.name = linear[-1] if linear else ""
        self.module: nn.Module | None = model.get_submodule(self.name) if linear else None
        self.rank = rank
        self.moments: ClassMoments | None = None
        self.complete = False
        self._seen: list[Tensor] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, what the head is given is kept."""
        self._seen = []
        if self.module is None or self.complete:
            yield
            return
        handle = self.module.register_forward_pre_hook(lambda _, inputs: self._see(inputs))
        try:
            yield
        finally:
            handle.remove()

    def _see(self, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            self._seen.append(inputs[0])

    def update(self, num_classes: int | None) -> None:
        """Add what was seen; a last layer that is no classifier's head is left alone."""
        if self.module is None or self.complete or not self._seen:
            return
        features = self._seen[-1]
        single = len(self._seen) == 1 and features.ndim == 2
        if not single or self.module.out_features != num_classes:
            self.module = None
            return
        z = LabelCode.unit(features.float())
        self._add(ClassMoments.of(z, z.new_zeros(len(z), dtype=torch.long), 1))

    def _add(self, moments: ClassMoments) -> None:
        self.moments = moments if self.moments is None else self.moments + moments

    def begin(self) -> None:
        """Nothing has been seen in this pass."""
        if not self.complete:
            self.moments = None

    def state_dict(self) -> dict[str, Tensor]:
        if self.module is None:
            return {"left_alone": torch.ones(1)}
        return {} if self.complete or self.moments is None else vars(self.moments)

    def merge(self, state: Mapping[str, Tensor]) -> None:
        if "left_alone" in state:
            self.module = None
        elif state and self.module is not None:
            self._add(ClassMoments(**state))

    def coders(self) -> dict[str, Coder]:
        """The label coder by its name, or nothing where there is no head."""
        if self.module is None or self.moments is None:
            return {}
        return {f"{self.name}{LABEL}": LabelCoder(LabelCode.fit(self.moments, rank=self.rank))}
