"""ModelSnapshot: modules and weights at one moment, to tell cheaply whether they changed since."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from nervecode.layers.callables import is_known
from nervecode.layers.guard.mode import ModeUse, mode_use
from nervecode.layers.guard.weights import empty_places, places_of, weights_of
from nervecode.layers.patches import forward_of

TRAINING = "the model is in training mode, and was calibrated in evaluation mode; call eval()"
UNSURE = (
    "the model is in training mode, and was calibrated in evaluation mode; whether {} does the "
    "same in both cannot be told; call eval()"
)
# Where a module keeps a tensor, the name there, the tensor, its version, what tells the place of
# its values, and what that told. A plain tuple: each call takes all of them apart.
Seen = tuple[Mapping[str, Tensor | None], str, Tensor, int, Callable[[], Any], Any]


class ModelSnapshot:
    """The modules, forwards and weights of a model at one moment.

    Attributes:
        mode_users: each module that computes something else in training, or may do so -> the
            warning for when it is in training.
        other_modules: all others.
        traceable: the `mode_users` that a graph may look at; none of a compiled model, whose
            modules Dynamo refuses to reach by two ways.
        uncounted: weights made in inference mode, which have no version counter, so that writes to
            them go unseen.
        forwards: the forward of each module, to compare with those of another snapshot.
        stale: whether something happened since that no version counter tells of: a step of a fused
            optimiser, or a call that may have written statistics.
    """

    def __init__(self, model: nn.Module) -> None:
        weights = list(weights_of(model))
        counted = [weight for weight in weights if not weight[2].is_inference()]
        self._counted = tuple(_seen(*weight) for weight in counted)
        self.uncounted = tuple(_seen(*weight) for weight in weights if weight[2].is_inference())
        self._storages = tuple(_storages(tensor for _, _, tensor in weights))
        self._addresses = tuple(storage.cdata for storage in self._storages)
        # Where each module keeps those within it, and these.
        self._parts = tuple(
            (module._modules, tuple(module._modules.values()))
            for module in model.modules()
            if module._modules and not isinstance(module, torch.jit.ScriptModule)
        )
        # How much each module keeps, and where it has room for a weight that it lacks.
        self._places = [where for module in model.modules() for where in places_of(module)]
        self._sizes = tuple(map(len, self._places))
        self._empty = tuple(empty_places(model))
        # As they stand in the modules and in their classes, whose attributes may make them anew.
        kinds = dict.fromkeys(kind for module in model.modules() for kind in type(module).__mro__)
        held: list[Mapping[str, Any]] = [*map(vars, model.modules()), *map(vars, kinds)]
        self._forwards = tuple((own, own.get("forward")) for own in held)
        self.forwards = tuple(map(_forward_by, model.modules()))
        self.mode_users = dict(_mode_users(model))
        self.other_modules = tuple(
            module for module in model.modules() if module not in self.mode_users
        )
        self._keeps_statistics = any(map(_keeps_statistics, self.mode_users))
        self.traceable = {} if hasattr(model, "dynamo_ctx") else self.mode_users
        self.stale = False
        self._ids = frozenset(id(tensor) for _, _, tensor in weights)
        with _LOCK:
            _SNAPSHOTS.add(self)

    def is_current(self) -> bool:
        """Whether nothing changed since; a write that no version counter tells of is not seen."""
        if self.stale:
            return False
        for within, modules in self._parts:  # each call does this: no generator
            if tuple(within.values()) != modules:
                return False
        if tuple(map(len, self._places)) != self._sizes:
            return False
        for own, forward in self._forwards:
            if own.get("forward") is not forward:
                return False
        if any(map(torch.UntypedStorage._expired, self._addresses)):
            return False  # of values that moved; the place that they left may be another's by now
        try:
            for where, name in self._empty:
                if where[name] is not None:
                    return False
            for where, name, tensor, version, ask, place in self._counted:
                if where[name] is not tensor or tensor._version != version or ask() != place:
                    return False
            for where, name, tensor, _, ask, place in self.uncounted:
                if where[name] is not tensor or ask() != place:
                    return False
        except KeyError:
            return False
        return True

    def note_call(self) -> None:
        """Note a call in training, or an unwatched one: `F.batch_norm` counts no version."""
        self.stale = self.stale or self._keeps_statistics

    def note_step(self, optimizer: Optimizer) -> None:
        """Note that an optimiser has made a step, if any of these weights are its own."""
        groups = getattr(optimizer, "param_groups", ())
        if any(id(tensor) in self._ids for group in groups for tensor in group["params"]):
            self.stale = True


def mode_warning(module: nn.Module) -> str:
    """The warning about a module in training mode; empty where the mode changes nothing."""
    use = mode_use(module)
    if use is ModeUse.UNKNOWN:
        return UNSURE.format(type(module).__name__)
    return TRAINING if use is ModeUse.YES else ""


def _forward_by(module: nn.Module) -> Any:
    """The function that a module's forward is."""
    if isinstance(module, torch.jit.ScriptModule):  # which makes its methods anew
        return type(module)
    forward = forward_of(module)
    if isinstance(forward, nn.Module):  # of which `torch.compile` made this one
        return type(forward)
    return getattr(forward, "__func__", forward)


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether a module may write to its buffers in training, where it counts no such calls."""
    if is_known(type(module)) and getattr(module, "num_batches_tracked", None) is not None:
        return False
    written = module._buffers.keys() - module._non_persistent_buffers_set
    return any(module._buffers[name] is not None for name in written)


def _mode_users(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules with their warnings, those first that are known to use the mode."""
    users = [(module, w) for module in model.modules() if (w := mode_warning(module))]
    yield from sorted(users, key=lambda pair: pair[1] != TRAINING)


def _storages(tensors: Iterable[Tensor]) -> Iterator[StorageWeakRef]:
    """The memory of tensors, each once, where they tell it; it is not kept from being freed."""
    known = set[int]()
    for tensor in tensors:
        try:
            storage = StorageWeakRef(tensor.untyped_storage())
        except (RuntimeError, ValueError, NotImplementedError):  # as of sparse ones
            continue
        if storage.cdata not in known:
            known.add(storage.cdata)
            yield storage


def _seen(where: Mapping[str, Tensor | None], name: str, tensor: Tensor) -> Seen:
    """`.data = ...` and `.half()` move values without a version.

    Where values have no address, the dtype is recorded, which tells of `.half()` alone.
    """
    version = 0 if tensor.is_inference() else tensor._version
    ask: Callable[[], Any] = tensor.data_ptr
    try:
        return where, name, tensor, version, ask, ask()
    except (RuntimeError, ValueError):  # sparse, lazy, or made of other tensors
        return where, name, tensor, version, lambda: tensor.dtype, tensor.dtype


_SNAPSHOTS: WeakSet[ModelSnapshot] = WeakSet()
_LOCK = threading.Lock()


def _note_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    with _LOCK:
        snapshots = list(_SNAPSHOTS)
    for snapshot in snapshots:
        snapshot.note_step(optimizer)


# One hook for all models: optimisers iterate over the hooks, which must not change meanwhile.
register_optimizer_step_post_hook(_note_step)
