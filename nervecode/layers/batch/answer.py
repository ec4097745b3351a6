"""The answer in what a model returns: the tensor that holds its logits, and how to get there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from nervecode.layers.taps import is_record

Path = tuple[str | int, ...]
"""The keys, positions and names that lead to a part of an output; none to the output itself."""

DEPTH = 4  # of mappings and tuples in one another
LOGITS = "logits"


def answer_of(output: Any, path: Path | None = None, width: int | None = None) -> Tensor | None:
    """What a model answers: a tensor, or the part of its output that `path` leads to.

    Where no tensor is there it is the part that is called `logits`, if any; without a path, the
    first tensor else. Where the `width` of the logits is known, a part of another is none, and the
    only part of that width is the answer where nothing else is.
    """
    if isinstance(output, Tensor):
        return output
    part = None if path is None else _at(output, path)
    if isinstance(part, Tensor) and _has(part, width):
        return part
    parts = [(keys, part) for keys, part in parts_of(output) if part.ndim]  # a loss is none
    outermost = [(keys[-1], part) for keys, part in parts if len(keys) == len(parts[0][0])]
    named = [part for name, part in outermost if name == LOGITS and _has(part, width)]
    if named:
        return named[0]
    if width is not None:
        wide = [part for _, part in parts if _has(part, width)]
        return wide[0] if len(wide) == 1 else None
    return outermost[0][1] if outermost and path is None else None


def predicted_classes(
    output: Any, path: Path | None = None, width: int | None = None
) -> Tensor | None:
    """(B,) classes that a model's output predicts; None where it has no (B, K) logits, K > 1.

    `width` is K where that is known.
    """
    logits = answer_of(output, path, width)
    if logits is None or not _may_be_logits(logits) or not _has(logits, width):
        return None
    return logits.detach().argmax(1) if logits.shape[1] > 1 else None


def answer_rows(output: Any, path: Path | None, width: int | None) -> int | None:
    """How many answers an output holds; None where no fit has told where its logits are."""
    if path is None or width is None:
        return None
    logits = answer_of(output, path, width)
    return len(logits) if logits is not None and _has(logits, width) else None


def _has(part: Tensor, width: int | None) -> bool:
    """Whether a part of an output may be logits of a width, where that is known."""
    return width is None or (_may_be_logits(part) and part.shape[1] == width)


def parts_of(output: Any) -> Iterator[tuple[Path, Tensor]]:
    """The tensors in an output, of mappings, tuples and dataclasses, the outermost first."""
    level: list[tuple[Path, Any]] = [((), output)]
    for _ in range(DEPTH):
        yield from ((path, part) for path, part in level if isinstance(part, Tensor))
        level = [((*path, key), below) for path, part in level for key, below in _items(part)]


def logits_in(output: Any, size: int) -> dict[Path, Tensor]:
    """The tensors in an output that may be logits of `size` inputs."""
    return {p: t for p, t in parts_of(output) if _may_be_logits(t) and len(t) == size}


def chosen(
    logits: Mapping[Path, Tensor],
    labels: Tensor,
    num_classes: int | None,
    linear: Iterable[Tensor],
) -> Path:
    """Which of the tensors that may be logits is the answer.

    The one that is called `logits`; else of those that have a column for each label those whose
    largest number names at least half as many labels as the best; of these that of the linear layer
    that ran last.

    Args:
        logits: the tensors, at least one.
        labels: (B,) classes of the inputs.
        num_classes: how many columns it has, where that is known.
        linear: the (B, K) that linear layers returned, in the order in which they ran.
    """
    logits = _preferred(logits, lambda path, _: path[-1:] == (LOGITS,))
    logits = _preferred(logits, lambda _, part: part.shape[1] == num_classes)
    least = int(labels.max()) + 1 if len(labels) else 0
    logits = _preferred(logits, lambda _, part: part.shape[1] >= least)
    hits = {p: int((t.argmax(1) == labels.to(t.device)).sum()) for p, t in logits.items()}
    most = max(hits.values())
    logits = _preferred(logits, lambda path, _: 2 * hits[path] >= most)
    layers = list(linear)

    def rank(path: Path) -> tuple[int, bool]:
        """Of the last layer of that width, and whether the tensor is what it returned."""
        own = logits[path]
        wide = [number for number, z in enumerate(layers) if z.shape == own.shape]
        return (wide[-1], same(layers[wide[-1]], own)) if wide else (-1, False)

    return max(logits, key=rank)


def _preferred(
    logits: Mapping[Path, Tensor], wanted: Callable[[Path, Tensor], bool]
) -> Mapping[Path, Tensor]:
    """The tensors that are wanted, if any is."""
    return {path: part for path, part in logits.items() if wanted(path, part)} or logits


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same object, or have the same values."""
    if one is other:
        return True
    if one.shape != other.shape or one.device != other.device:
        return False
    return bool((one == other).all())


def _may_be_logits(part: Tensor) -> bool:
    return not part.is_nested and part.ndim == 2 and part.shape[1] > 0 and part.is_floating_point()


def _at(output: Any, path: Path) -> Any:
    """The part of an output that a path leads to; None where it has none."""
    for key in path:
        output = dict(_items(output)).get(key)
    return output


def _items(value: Any) -> list[tuple[str | int, Any]]:
    """The parts of a mapping, a tuple, a list or a dataclass, by key, position or name."""
    if isinstance(value, Mapping):
        return [(key, part) for key, part in value.items() if isinstance(key, (str, int))]
    if isinstance(value, (tuple, list)) and not isinstance(value, PackedSequence):
        names = getattr(value, "_fields", range(len(value)))
        return list(zip(names, value, strict=False))
    if is_record(value):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    return []
