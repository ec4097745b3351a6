"""What the arguments of a call of the model tell of its batch."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.core import BatchShape
from nervecode.layers.layout import sequence_first_parts
from nervecode.layers.patches import forward_of
from nervecode.layers.taps import activation_of


class Arguments:
    """Reads the arguments of a module's calls.

    Args:
        module: the model, or a part of it that may be told of padding.
    """

    def __init__(self, module: nn.Module) -> None:
        self.sequence_first = bool(sequence_first_parts(module))
        parameters = _parameters(module)
        self.names = [p.name for p in parameters]
        # Most models have no such argument: no call of theirs is searched for one.
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.may_be_masked = anything or any(name in self.names for name in MASKS)
        self.decodes = any(name in self.names for name in DECODED)
        self.reads_ids = "input_ids" in self.names
        # Of other parts than these, what they call a mask may be one of something else.
        self.is_believed = self.reads_ids or isinstance(module, MASKED)

    def batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BatchShape:
        """How many inputs a call has, and which of their positions are real.

        The first argument that tells counts; a vector of one element, such as the time of all
        inputs, only where no other does. A tensor's first dimension is the batch; of a model
        with sequence-first parts it may be the second. A list of tensors may be a batch of inputs
        or several inputs of one batch: its length and the first dimension they share both count.
        """
        if not kwargs and not self.may_be_masked and len(args) == 1 and isinstance(args[0], Tensor):
            return BatchShape(_sizes(args[0], self.sequence_first))  # most calls are of this kind
        values = (*args, *kwargs.values())
        telling = [value for value in values if not _is_single(value)] or values
        sizes = _first(_sizes(value, self.sequence_first) for value in telling)
        return BatchShape(sizes, self.mask(args, kwargs))

    def mask(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        """True at real positions, where the arguments say which those are."""
        named = self.by_name(args, kwargs) if self.may_be_masked else {}
        for arguments in (named, *args, *kwargs.values()):
            if isinstance(arguments, Mapping):
                for name, read in MASKS.items():
                    if isinstance(mask := arguments.get(name), Tensor):
                        return read(mask)
        return None

    def by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by the names that the module has for them."""
        return {**dict(zip(self.names, args, strict=False)), **kwargs}

    def attends_elsewhere(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether this is attention to another sequence, whose padding is not that of its own."""
        named = self.by_name(args, kwargs)
        return named.get("query") is not named.get("key")

    def reads_another(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether this is a decoder, whose sequence is not the one that the call tells of."""
        named = self.by_name(args, kwargs)
        return any(named.get(name) is not None for name in MEMORIES)

    def shifts_its_text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether an encoder-decoder is given nothing to decode, and so reads its text there too.

        BART and T5 of Transformers shift the text by one place; as many places of it are real.
        """
        if not self.decodes:
            return False
        named = self.by_name(args, kwargs)
        labels = named.get("labels")  # of a text, which is decoded then
        texts = isinstance(labels, Tensor) and labels.ndim > 1
        return not texts and all(named.get(name) is None for name in DECODED)


def real_positions(mask: Tensor) -> Tensor:
    """True at the real positions of a mask that is 1 there, or of one that is added to logits.

    What is added is 0 at real positions and below elsewhere: a mask of floats without a positive
    number is taken for it, whether there is padding or not.
    """
    if not mask.is_floating_point():
        return mask.bool()
    # Nothing waits for the device to tell which it is.
    return torch.where((mask > 0).any(), mask > 0, mask == 0)


def given_positions(mask: Tensor) -> Tensor:
    """True at the real positions of a mask that is 1 there, as a caller is asked for.

    An input of zeros alone has none, whatever the others of its batch are. A mask with numbers
    below 0 is one that is added to logits.
    """
    if not mask.is_floating_point():
        return mask.bool()
    return torch.where((mask < 0).any(), mask == 0, mask > 0)


def _is_zero(mask: Tensor) -> Tensor:
    """Of booleans true is padding, of numbers what is added to the logits of attention."""
    return mask == 0


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "attention_mask": real_positions,
    "src_key_padding_mask": _is_zero,
    "tgt_key_padding_mask": _is_zero,
    "key_padding_mask": _is_zero,
}
"""Arguments that say which positions are real, and how."""

MEMORIES = ("memory", "encoder_hidden_states")
"""Arguments of a decoder that are what an encoder made of another sequence."""

DECODED = ("decoder_input_ids", "decoder_inputs_embeds")
"""Arguments of an encoder-decoder that are what its decoder reads."""

MASKED = (
    nn.TransformerEncoder, nn.TransformerDecoder, nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer, nn.MultiheadAttention,
)  # fmt: skip


def masked_parts(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a model that it may tell of padding, by name.

    Those of PyTorch, the outermost of each; all that read `input_ids`; of others with an argument
    for a mask, those that are within no other part.
    """
    parts: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()  # of any part
    within: set[nn.Module] = set()  # one of PyTorch, which tells the parts that it has itself
    for name, module in model.named_modules():
        if module in within:
            continue
        own_rule = isinstance(module, MASKED)
        names = {parameter.name for parameter in _parameters(module)} if name else set()
        told = not names.isdisjoint(MASKS) and ("input_ids" in names or module not in inside)
        if own_rule or told:
            inside |= set(module.modules())
            within |= set(module.modules()) if own_rule else set()
            if name:
                parts[name] = module
    return parts


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """Of the model's forward; none where it does not say, as a scripted one."""
    try:
        return list(inspect.signature(forward_of(model)).parameters.values())
    except (TypeError, ValueError):
        return []


def _is_single(value: Any) -> bool:
    """Whether a value is a vector of one element, which may stand for all inputs."""
    return isinstance(value, Tensor) and value.ndim == 1 and len(value) == 1


def has_lengths(value: Any) -> bool:
    """Whether an argument has sequences of their own lengths, without padding."""
    if isinstance(value, Tensor):
        return value.is_nested
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, (list, tuple)) and not isinstance(value, PackedSequence):
        return any(map(has_lengths, value))
    return isinstance(value, PackedSequence)


def _sizes(value: Any, sequence_first: bool) -> tuple[int, ...]:
    if isinstance(value, Tensor):
        if value.is_nested:
            return (value.size(0),)
        return tuple(value.shape[: 1 + sequence_first])
    if isinstance(value, PackedSequence):
        return (int(value.batch_sizes[0]),)  # batch_sizes stays on the CPU
    if isinstance(value, Mapping):
        return _first(_sizes(part, sequence_first) for part in value.values())
    if isinstance(value, (list, tuple)) and value:
        shared = {_sizes(part, sequence_first) for part in value}
        return (*(shared.pop() if len(shared) == 1 else ()), len(value))
    return ()


def _first(sizes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return next(filter(None, sizes), ())


def agreed_size(
    rows: Mapping[str, int], batch: BatchShape, output: Any, answers: int | None = None
) -> int:
    """How many inputs a call had whose arguments leave it open.

    The answers tell, where a fit has seen that there is one for each input; else what the model
    returned, where a layer has as many rows, or a module that ran on one piece of the batch after
    another; else most of the layers.

    Args:
        rows: the rows of each layer, `name#2` of a second run.
        batch: what the arguments tell.
        output: what the model returned.
        answers: the rows of its logits; None where no fit has told which these are.
    """
    if answers is not None and (not batch.sizes or answers in batch.sizes):
        return answers
    returned = activation_of(output)
    # Of three dimensions and more, the first may be steps in a model with sequence-first parts.
    if isinstance(returned, Tensor) and (not batch.sizes or returned.ndim <= 2):
        pieces: Counter[str] = Counter()
        for name, number in rows.items():
            pieces[name.partition("#")[0]] += number
        of_all = () if batch.sizes else pieces.values()
        size = _sizes(returned, False)
        if size and size[0] in (batch.sizes or size) and size[0] in (*rows.values(), *of_all):
            return size[0]
    return Counter(rows.values()).most_common(1)[0][0]
