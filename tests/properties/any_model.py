"""Random small models out of a grammar, for the promise that any model can be watched.

An activation is of one of four kinds: `vector` (B, 8), `tokens` (B, T, 8), `steps` (T, B, 8) and
`map` (B, 8, 4, 4). A rule turns one kind into another, or the same, by some module; a model is a
chain of rules and a head. What a rule does to the modules inside is what the test is about.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

WIDTH, STEPS, SIDE, CLASSES = 8, 5, 4, 3
Rule = tuple[str, Callable[[], nn.Module], str]


class Then(nn.Module):
    """A module, and what a function makes of it and its input."""

    def __init__(self, module: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.part = module
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.part, x)


class Given(nn.Module):
    """A module without parts that returns what a function returns."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Experts(nn.Module):
    """Each expert sees the inputs that are routed to it."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(linear() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out, chosen = torch.zeros_like(x), (x.sum(-1) > 0).long()
        for i, expert in enumerate(self.experts):
            out[chosen == i] = expert(x[chosen == i]).to(out.dtype)
        return out


class Names(nn.Module):
    """Parts whose names a mapping of modules, or a path, has a use for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = linear(), linear()
        self.add_module("a/b", linear())

    def forward(self, x: Tensor) -> Tensor:
        return self.keys(x) + self.values(self.get_submodule("a/b")(x))


class OfTwo(NamedTuple):
    first: Tensor
    second: Any


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def recurrent(kind: type[nn.RNNBase], first: bool, **kwargs: Any) -> nn.Module:
    sides = 2 if kwargs.get("bidirectional") else 1
    module = kind(WIDTH, kwargs.pop("hidden_size", WIDTH // sides), batch_first=first, **kwargs)
    return Then(module, lambda part, x: part(x)[0])


def packed() -> nn.Module:
    def run(part: nn.Module, x: Tensor) -> Tensor:
        lengths = torch.arange(len(x)) % STEPS + 1
        rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(part(rows)[0], batch_first=True, total_length=STEPS)[0]

    return Then(nn.GRU(WIDTH, WIDTH, batch_first=True), run)


def attention(first: bool) -> nn.Module:
    module = nn.MultiheadAttention(WIDTH, 2, batch_first=first)
    return Then(module, lambda part, x: x + part(x, x, x)[0])


def encoder(first: bool, masked: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=first)

    def run(part: nn.Module, x: Tensor) -> Tensor:
        inputs = x.shape[0 if first else 1]
        padding = torch.arange(STEPS, device=x.device) > 1 + torch.arange(inputs).unsqueeze(1)
        return part(x, src_key_padding_mask=padding if masked else None)

    return Then(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), run)


def again(reentrant: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda part, x: checkpoint(part, x, use_reentrant=reentrant)


def block() -> nn.Module:
    return nn.Sequential(linear(), nn.ReLU(), linear())


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(linear(), nn.Tanh()))


def tied() -> nn.Module:
    pair = nn.Sequential(linear(), nn.Tanh(), linear())
    pair[2].weight = pair[0].weight
    return pair


def elementwise() -> list[Rule]:
    """Rules for any kind with the channels last."""
    return [
        ("linear", linear, ""),
        ("relu", nn.ReLU, ""),
        ("relu_", lambda: nn.ReLU(inplace=True), ""),
        ("gelu", nn.GELU, ""),
        ("layer_norm", lambda: nn.LayerNorm(WIDTH), ""),
        ("dropout", lambda: nn.Dropout(0.2), ""),
        ("dropout_", lambda: nn.Dropout(0.2, inplace=True), ""),
        ("block", block, ""),
        ("residual", lambda: Then(block(), lambda part, x: x + part(x)), ""),
        ("linear_add_", lambda: Then(linear(), lambda part, x: part(x).add_(1)), ""),
        ("twice", lambda: Then(linear(), lambda part, x: part(torch.tanh(part(x)))), ""),
        ("checkpoint", lambda: Then(block(), again(False)), ""),
        ("checkpoint_reentrant", lambda: Then(block(), again(True)), ""),
        ("keyword", lambda: Then(linear(), lambda part, x: part(input=x)), ""),
        ("early", lambda: Then(block(), lambda part, x: part(x) if x.sum() > 0 else x), ""),
        ("never", lambda: Then(block(), lambda part, x: x), ""),
        ("weight_norm", lambda: parametrizations.weight_norm(linear()), ""),
        ("tied", tied, ""),
        ("lazy", lambda: nn.LazyLinear(WIDTH), ""),
        ("scripted", scripted, ""),
        ("names", Names, ""),
        ("dict", lambda: Then(Given(lambda x: {"a": x, "b": None}), lambda p, x: p(x)["a"]), ""),
        ("tuple", lambda: Then(Given(lambda x: OfTwo(x * 2, "text")), lambda p, x: p(x).first), ""),
        ("nothing", lambda: Then(Given(lambda x: None), lambda p, x: (p(x), x)[1]), ""),
        ("integers", lambda: Then(Given(lambda x: x.argmax(-1)), lambda p, x: (p(x), x)[1]), ""),
        ("complex", lambda: Then(Given(torch.fft.fft), lambda p, x: p(x.float()).real.to(x)), ""),
        ("scalar", lambda: Then(Given(lambda x: x.mean()), lambda p, x: x - p(x)), ""),
        ("nan", lambda: Then(Given(lambda x: x / 0), lambda p, x: (p(x), x)[1]), ""),
        ("constant", lambda: Then(Given(lambda x: x * 0), lambda p, x: x + p(x)), ""),
        ("meta", lambda: Then(Given(lambda x: x.to("meta")), lambda p, x: (p(x), x)[1]), ""),
        ("empty", lambda: Then(linear(), lambda p, x: x + p(x[:0]).sum()), ""),
        ("rows", lambda: Then(linear(), lambda p, x: p(x.reshape(-1, WIDTH)).view(x.shape)), ""),
        ("detached", lambda: Given(lambda x: x.detach() + x), ""),
    ]  # fmt: skip


RULES: dict[str, list[Rule]] = {
    "vector": [
        *elementwise(),
        ("batch_norm", lambda: nn.BatchNorm1d(WIDTH), ""),
        ("experts", Experts, ""),
        ("sparse", lambda: Then(Given(lambda x: x.to_sparse()), lambda p, x: p(x).to_dense()), ""),
        ("cell", lambda: Then(nn.GRUCell(WIDTH, WIDTH), lambda p, x: p(x)), ""),
        ("halves", lambda: Given(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), ""),
        ("to_tokens", lambda: nn.Sequential(
            nn.Linear(WIDTH, STEPS * WIDTH), nn.Unflatten(1, (STEPS, WIDTH))), "tokens"),
        ("to_map", lambda: nn.Sequential(
            nn.Linear(WIDTH, WIDTH * SIDE**2), nn.Unflatten(1, (WIDTH, SIDE, SIDE))), "map"),
    ],
    "tokens": [
        *elementwise(),
        ("lstm", lambda: recurrent(nn.LSTM, True), ""),
        ("gru", lambda: recurrent(nn.GRU, True, bidirectional=True), ""),
        ("packed", packed, ""),
        ("attention", lambda: attention(True), ""),
        ("encoder", lambda: encoder(True, False), ""),
        ("encoder_masked", lambda: encoder(True, True), ""),
        ("conv1d", lambda: Then(
            nn.Conv1d(WIDTH, WIDTH, 3, padding=1), lambda p, x: p(x.mT).mT), ""),
        ("transposed", lambda: Given(lambda x: x.transpose(0, 1)), "steps"),
        ("mean", lambda: Given(lambda x: x.mean(1)), "vector"),
        ("last", lambda: Given(lambda x: x[:, -1]), "vector"),
        ("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(STEPS * WIDTH, WIDTH)), "vector"),
    ],
    "steps": [
        *elementwise(),
        ("lstm", lambda: recurrent(nn.LSTM, False), ""),
        ("projected", lambda: recurrent(nn.LSTM, False, hidden_size=12, proj_size=WIDTH), ""),
        ("rnn", lambda: recurrent(nn.RNN, False, num_layers=2), ""),
        ("attention", lambda: attention(False), ""),
        ("encoder", lambda: encoder(False, True), ""),
        ("transposed", lambda: Given(lambda x: x.transpose(0, 1)), "tokens"),
        ("last", lambda: Given(lambda x: x[-1]), "vector"),
    ],
    "map": [
        ("conv", lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1), ""),
        ("conv_relu_", lambda: nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU(inplace=True)), ""),
        ("batch_norm", lambda: nn.BatchNorm2d(WIDTH), ""),
        ("group_norm", lambda: nn.GroupNorm(2, WIDTH), ""),
        ("residual", lambda: Then(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), lambda part, x: torch.relu_(part(x)) + x), ""),
        ("pool", lambda: nn.MaxPool2d(3, 1, 1), ""),
        ("channels_last", lambda: Given(
            lambda x: x.contiguous(memory_format=torch.channels_last)), ""),
        ("pixels", lambda: Then(
            linear(), lambda p, x: p(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), ""),
        ("checkpoint", lambda: Then(nn.Conv2d(WIDTH, WIDTH, 1), again(False)), ""),
        ("windows", lambda: Then(linear(), lambda p, x: x + p(
            x.permute(0, 2, 3, 1).reshape(-1, SIDE, WIDTH)).sum()), ""),
        ("to_tokens", lambda: Given(lambda x: x.flatten(2).mT[:, :STEPS]), "tokens"),
        ("pooled", lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "vector"),
    ],
}  # fmt: skip
SHAPES = {
    "vector": lambda b: (b, WIDTH),
    "tokens": lambda b: (b, STEPS, WIDTH),
    "steps": lambda b: (STEPS, b, WIDTH),
    "map": lambda b: (b, WIDTH, SIDE, SIDE),
}
POOL = {
    "vector": lambda x: x,
    "tokens": lambda x: x.mean(1),
    "steps": lambda x: x.mean(0),
    "map": lambda x: x.mean((2, 3)),
}
RETURNS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "logits": lambda logits, x: logits,
    "mapping": lambda logits, x: {"logits": logits, "hidden": [x, None]},
    "pair": lambda logits, x: (logits, x),
}


class AnyModel(nn.Module):
    """A chain of rules and a head; the same for the same seed.

    Attributes:
        grammar: the rules by name, from the kind of its inputs to what it returns.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        kind = self.takes = draw.choice(list(RULES))
        self.body, names = nn.ModuleList(), [kind]
        for _ in range(draw.randint(1, 6)):
            name, build, becomes = draw.choice(RULES[kind])
            self.body.append(build())
            kind = becomes or kind
            names.append(name)
        self.pool = POOL[kind]
        self.head = nn.Linear(WIDTH, CLASSES)
        returns = draw.choice(list(RETURNS))
        self.returns = RETURNS[returns]
        self.grammar = f"seed {seed}: {' > '.join(names)} > {returns}"

    def forward(self, x: Tensor) -> Any:
        for part in self.body:
            x = part(x)
        return self.returns(self.head(self.pool(x)), x)

    def inputs(self, number: int, dtype: torch.dtype) -> Tensor:
        """A random batch, in the model's own layout."""
        return torch.randn(SHAPES[self.takes](number)).to(dtype)
