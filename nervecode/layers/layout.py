"""The layout of a module's output, read off the module: its channels, its batch, its dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn


class Layout(NamedTuple):
    """Where a module's output has what; None where the module does not say.

    Attributes:
        width: the number of channels.
        channel_dim: 1 or -1, once the batch comes first.
        batch_dim: 0 or 1.
        ndim: the dimensions of the output of a whole batch.
    """

    width: int | None = None
    channel_dim: int | None = None
    batch_dim: int | None = None
    ndim: int | None = None


POOLS = {
    getattr(nn, f"{kind}{n}d"): n
    for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
    for n in (1, 2, 3)
}
TRANSFORMERS = (
    nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip


def output_layouts(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    picks: Mapping[str, str | int] | None = None,
) -> dict[str, Layout]:
    """The layouts of some of a model's modules, by name, with what the model says of the batch.

    A module that does not say where the batch is has it where the Transformer around it has it.
    Elsewhere it comes first, unless the model has a sequence-first part: then it is left open.

    Args:
        model: the model.
        modules: some of its modules, by name.
        picks: by name, which part of a module's output is meant.
    """
    elsewhere = None if sequence_first_parts(model) else 0
    around: dict[nn.Module, int] = {}
    for module in model.modules():
        if isinstance(module, TRANSFORMERS):
            dim = output_layout(module).batch_dim
            around |= {} if dim is None else dict.fromkeys(module.modules(), dim)
    layouts = {}
    for name, module in modules.items():
        layout = output_layout(module, (picks or {}).get(name))
        if layout.batch_dim is None:
            layout = layout._replace(batch_dim=around.get(module, elsewhere))
        layouts[name] = layout
    return layouts


def layouts_before(model: nn.Module) -> dict[nn.Module, Layout]:
    """The layout of the last module before each one that states a width, as registered.

    What states none itself, as an activation, mostly keeps that of what came before. A norm behind
    a convolution has the dimensions of the convolution.
    """
    layouts: dict[nn.Module, Layout] = {}
    last = Layout()
    for module in model.modules():
        layouts[module] = last
        own = output_layout(module) if next(module.children(), None) is None else Layout()
        if own.width is not None:
            ndim = own.ndim or (last.ndim if own.channel_dim == 1 else None)
            last = own._replace(ndim=ndim)
    return layouts


def sequence_first_parts(model: nn.Module) -> list[nn.Module]:
    """The recurrent and attention modules of a model that are made for (T, B, C)."""
    return [module for module in model.modules() if output_layout(module).batch_dim == 1]


def output_layout(module: nn.Module, pick: str | int | None = None) -> Layout:
    """The layout of a module's output, or of the part of it that `pick` names.

    A composite module is taken to end in the last of its parts that has a known width; where its
    channels are is left open, since a block may permute them.

    >>> output_layout(nn.Conv2d(3, 16, 3))
    Layout(width=16, channel_dim=1, batch_dim=0, ndim=4)
    """
    own = _sequence_layout(module, pick) or _leaf_layout(module)
    if own is not None:
        return own
    widths = [
        part.width for part in map(output_layout, module.children()) if part.width is not None
    ]
    return Layout(widths[-1] if widths else None)


def _sequence_layout(module: nn.Module, pick: str | int | None) -> Layout | None:
    """Of recurrent, attention and Transformer modules, which say where the batch is."""
    if isinstance(module, nn.RNNBase):
        width = module.proj_size or module.hidden_size
        if pick in (1, -1):  # the last states, (layers, B, C) whatever `batch_first`
            return Layout(width, -1, 1, 3)
        return Layout(width * (1 + module.bidirectional), -1, 1 - module.batch_first, 3)
    if isinstance(module, nn.MultiheadAttention):
        if pick in (1, -1):  # the weights, (B, T, S) or (B, heads, T, S)
            return Layout(batch_dim=0)
        return Layout(module.embed_dim, -1, 1 - module.batch_first, 3)
    if isinstance(module, nn.Transformer):
        return Layout(module.d_model, -1, 1 - module.batch_first, 3)
    if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return output_layout(module.self_attn)
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)) and len(module.layers):
        return output_layout(module.layers[-1])
    return None


def _leaf_layout(module: nn.Module) -> Layout | None:
    if isinstance(module, nn.modules.conv._ConvNd):
        return Layout(module.out_channels, 1, 0, 2 + len(module.kernel_size))
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return Layout(module.num_features, 1, 0)
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return Layout(module.num_features, 1, 0, 1 + module._get_no_batch_dim())
    if isinstance(module, nn.GroupNorm):
        return Layout(module.num_channels, 1, 0)
    if type(module) in POOLS:
        return Layout(None, 1, 0, 2 + POOLS[type(module)])
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        return Layout(module.out_features, -1)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return Layout(module.embedding_dim, -1)
    if isinstance(module, nn.RNNCellBase):
        return Layout(module.hidden_size, -1, 0, 2)
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        # A subclass with a forward of its own may permute, as LayerNorm2d of torchvision does.
        permutes = type(module).forward is not nn.LayerNorm.forward
        return Layout(module.normalized_shape[0], None if permutes else -1)
    return None
