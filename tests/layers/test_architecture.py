"""What files and state dicts were made for: the same weights may compute something else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import nervecode
from nervecode.errors import ArtifactError, InputError
from nervecode.layers import WrappedModel
from nervecode.layers.guard.architecture import Architecture
from nervecode.layers.storage import FORMAT, metadata, read_tensors
from tests.layers.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("ignore:calibrate")
Build = Callable[[], nn.Module]


def net(*between: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    act = act or nn.ReLU()
    return nn.Sequential(nn.Linear(6, 12), act, *between, nn.Linear(12, 8), nn.Linear(8, 4)).eval()


def convolutions(pool: nn.Module | None = None, **options: int | str) -> nn.Sequential:
    norm, pool = nn.BatchNorm2d(4), pool or nn.AdaptiveAvgPool2d(1)
    parts = [nn.Conv2d(1, 4, 3, **options), norm, pool, nn.Flatten(), nn.Linear(4, 4)]
    return nn.Sequential(*parts).eval()


class Swish(nn.Module):
    """An activation of one's own, which says what it is with."""

    def __init__(self, beta: float, *, says: str = "") -> None:
        super().__init__()
        self.beta, self._says = beta, says or f"beta={beta}"

    def extra_repr(self) -> str:
        return self._says

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class Block(nn.Module):
    def __init__(self, act: nn.Module, scale: float = 1.0, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.linear, self.act, self.scale, self.drop_rate = nn.Linear(12, 12), act, scale, drop_rate
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.scale * self.act(self.linear(x))


class RenamedBlock(Block):
    """A block under another name."""


def encoder(**options: object) -> nn.Sequential:
    layer = nn.TransformerEncoderLayer(6, **{"nhead": 2, "dim_feedforward": 8, **options})
    layer.self_attn.batch_first = True
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(18, 4)).eval()


def recurrent(kind: type[nn.RNNBase] = nn.RNN, **options: object) -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(6, 5, batch_first=True, **options)
            self.head = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    return Recurrent().eval()


def saved(build: Build, shape: tuple[int, ...], path: Path) -> WrappedModel:
    """Codes of a model as a file."""
    torch.manual_seed(0)
    wrapped = nervecode.wrap(build(), lambda name, module: name in ("0", "rnn"))
    batches = [(torch.randn(60, *shape), torch.arange(60) % 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.fit(batches, label_code=False).calibrate([torch.randn(60, *shape)]).save(path)
    return wrapped


def with_weights_of(build: Build, model: nn.Module) -> nn.Module:
    """Another model with the same weights."""
    other = build()
    for mine, theirs in zip(
        [*other.parameters(), *other.buffers()], [*model.parameters(), *model.buffers()],
        strict=True,
    ):  # fmt: skip
        mine.data.copy_(theirs)
    return other


OTHER: dict[str, tuple[Build, Build, tuple[int, ...], str]] = {
    "activation": (
        net,
        lambda: net(act=nn.GELU()),
        (6,),
        r"module '1': found GELU\(approximate='none'\), made for ReLU\(\)",
    ),
    "slope": (
        lambda: net(act=nn.LeakyReLU(0.01)),
        lambda: net(act=nn.LeakyReLU(0.3)),
        (6,),
        r"module '1': found negative_slope=0.3, made for 0.01",
    ),
    "one more dropout": (
        net,
        lambda: net(nn.Dropout()),
        (6,),
        r"module '2': found Dropout, made for Linear\(in_features=12, out_features=8\)",
    ),
    "one more at the end": (
        net,
        lambda: net().append(nn.Tanh()),
        (6,),
        r"module '4': found Tanh\(\), made for none",
    ),
    "one less": (
        lambda: net().append(nn.Tanh()),
        net,
        (6,),
        r"module '4': found none, made for Tanh\(\)",
    ),
    "none in its place": (
        net,
        lambda: net(act=nn.Identity()),
        (6,),
        r"module '1': found Identity, made for ReLU\(\)",
    ),
    "stride": (
        convolutions,
        lambda: convolutions(stride=2),
        (1, 9, 9),
        r"module '0': found stride=2, made for 1",
    ),
    "dilation": (
        convolutions,
        lambda: convolutions(dilation=2),
        (1, 9, 9),
        r"module '0': found dilation=2, made for 1",
    ),
    "what extra_repr leaves out": (
        lambda: convolutions(nn.Sequential(nn.AvgPool2d(2, padding=1), nn.AdaptiveAvgPool2d(1))),
        lambda: convolutions(
            nn.Sequential(
                nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.AdaptiveAvgPool2d(1)
            )
        ),
        (1, 9, 9),
        r"module '2.0': found count_include_pad=False, made for True",
    ),
    "heads": (encoder, lambda: encoder(nhead=3), (3, 6), "'0.self_attn': found num_heads=3, made"),
    "norm first": (
        encoder,
        lambda: encoder(norm_first=True),
        (3, 6),
        "module '0': found norm_first=True, made for False",
    ),
    "function": (
        encoder,
        lambda: encoder(activation=nn.functional.gelu),
        (3, 6),
        "module '0': found activation='gelu', made for 'relu'",
    ),
    "nonlinearity": (
        recurrent,
        lambda: recurrent(nonlinearity="relu"),
        (3, 6),
        "module 'rnn': found mode='RNN_RELU', made for 'RNN_TANH'",
    ),
    "a class of one's own": (
        lambda: net(act=Swish(1.0)),
        lambda: net(act=nn.SiLU()),
        (6,),
        r"found SiLU\(\), made for Swish\(extra_repr='beta=1.0', beta=1.0\)",
    ),
    "within a block": (
        lambda: net(Block(nn.ReLU())),
        lambda: net(Block(nn.Tanh())),
        (6,),
        r"module '2.act': found Tanh\(\), made for ReLU\(\)",
    ),
}


@pytest.mark.parametrize("kind", OTHER)
def test_the_same_weights_in_another_network_are_refused(kind: str, tmp_path: Path) -> None:
    build, other, shape, text = OTHER[kind]
    path = tmp_path / "codes.safetensors"
    wrapped = saved(build, shape, path)
    model = with_weights_of(other, wrapped.model)
    with pytest.raises(InputError, match=rf"{path}: made for another architecture; .*{text}"):
        nervecode.load(path, model)
    twin = nervecode.wrap(model)
    before = twin.layer_names
    with pytest.raises(InputError, match=rf"state dict: made for another architecture; .*{text}"):
        twin.load_state_dict(wrapped.state_dict())
    assert twin.layer_names == before
    x = torch.randn(5, *shape)
    assert not torch.equal(model(x), wrapped.model(x)) or kind == "one more dropout"


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(12), nn.ReLU(), nn.Linear(12, 8), nn.Linear(8, 4)).eval()


def initialised() -> nn.Module:
    model = lazy()
    model(torch.zeros(1, 6))
    return model


def synchronised() -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(convolutions())


def shared(apart: bool) -> nn.Module:
    model = net(Block(nn.ReLU()))
    model[1] = nn.ReLU() if apart else model[2].act
    return model


def patched() -> nn.Module:
    model = net()
    model[1].forward = torch.no_grad()(model[1].forward)
    return model


SAME: dict[str, tuple[Build, Build, tuple[int, ...]]] = {
    "training": (net, lambda: net().train().eval(), (6,)),
    "in place": (net, lambda: net(act=nn.ReLU(inplace=True)), (6,)),
    "rate of dropout": (lambda: net(nn.Dropout(0.5)), lambda: net(nn.Dropout(0.1)), (6,)),
    "no dropout": (lambda: net(nn.Dropout(0.5)), lambda: net(nn.Identity()), (6,)),
    "momentum": (convolutions, lambda: convolutions(), (1, 9, 9)),
    "ranks": (convolutions, synchronised, (1, 9, 9)),
    "two for one": (convolutions, lambda: convolutions(stride=(1, 1)), (1, 9, 9)),
    "name of a container": (
        net, lambda: type("Net", (nn.Sequential,), {})(*net()).eval(), (6,)
    ),
    "rate of a block": (
        lambda: net(Block(nn.ReLU())),
        lambda: net(Block(nn.ReLU(), drop_rate=0.5)),
        (6,),
    ),
    "rate that is said": (
        lambda: net(act=Swish(1.0, says="1, drop_path=0.1, device=device(type='cpu', index=0), 2")),
        lambda: net(act=Swish(1.0, says="1, 2")),
        (6,),
    ),
    "addresses": (
        lambda: net(act=Swish(1.0, says="at 0x7f0a")),
        lambda: net(act=Swish(1.0, says="at 0x8b1c")),
        (6,),
    ),
    "speed": (
        lambda: nn.Sequential(nn.TransformerEncoder(encoder()[0], 1), *encoder()[1:]).eval(),
        lambda: nn.Sequential(
            nn.TransformerEncoder(encoder()[0], 1, enable_nested_tensor=False), *encoder()[1:]
        ).eval(),
        (3, 6),
    ),
    "rate of a recurrent dropout": (
        lambda: recurrent(nn.LSTM, num_layers=2, dropout=0.5),
        lambda: recurrent(nn.LSTM, num_layers=2),
        (3, 6),
    ),
    "lazy": (net, initialised, (6,)),
    "shared": (lambda: shared(True), lambda: shared(False), (6,)),
    "wrapped forward": (net, patched, (6,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_what_computes_the_same_is_taken(kind: str, tmp_path: Path) -> None:
    build, other, shape = SAME[kind]
    path, x = tmp_path / "codes.safetensors", torch.randn(5, *shape)
    wrapped = saved(build, shape, path)
    expected = wrapped.score(x)[1]
    model = with_weights_of(other, wrapped.model)
    twin = nervecode.wrap(model)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = nervecode.load(path, model)
        twin.load_state_dict(wrapped.state_dict())
    assert not told
    for found in (again.score(x)[1], twin.score(x)[1]):
        torch.testing.assert_close(found.p_value, expected.p_value)
        assert found.valid.all()


def weight_normed(model: nn.Module) -> None:
    parametrizations.weight_norm(model[0])


def pruned(model: nn.Module) -> None:
    prune.random_unstructured(model[0], "weight", 0.5)


def halved(model: nn.Module) -> None:
    model.double()


def quantised(model: nn.Module) -> None:
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8, inplace=True)


class Times(nn.Module):
    """A parametrisation with an option."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


def test_parametrisations_are_compared_where_both_have_them() -> None:
    def times(factor: float) -> nn.Module:
        model = net()
        parametrize.register_parametrization(model[0], "weight", Times(factor))
        return model

    made = Architecture.of(times(1.0))
    assert not list(made.mismatches(times(1.0)))
    assert not list(made.mismatches(net())) and not list(
        Architecture.of(net()).mismatches(times(1))
    )
    [mismatch] = made.mismatches(times(3.0))
    assert mismatch.text == "module '0.parametrizations.weight.0': found factor=3.0, made for 1.0"


@pytest.mark.filterwarnings("ignore:.*(quantiz|is deprecated)", "ignore:.*the weights have changed")
@pytest.mark.parametrize("change", [weight_normed, pruned, halved, quantised])
def test_other_weights_are_told_as_such(change: Callable, tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    model = saved(net, (6,), path).unwrap()
    change(model)
    with pytest.warns(UserWarning, match="the model has other weights than its codes were made fo"):
        again = nervecode.load(path, model)
    dtype = torch.float64 if change is halved else torch.float32
    again.calibrate([torch.randn(60, 6, dtype=dtype)]).save(path)  # and is its own network's
    nervecode.load(path, model)


def test_lazy_modules_are_no_other_architecture(tmp_path: Path) -> None:
    wrapped = saved(net, (6,), tmp_path / "codes.safetensors")
    architecture = wrapped.condition.architecture
    assert architecture is not None
    assert not list(architecture.mismatches(lazy()))
    assert not list(Architecture.of(lazy()).mismatches(net()))


class Loss(nn.Module):
    """Of the training, which no answer goes through."""

    def forward(self, x: Tensor) -> Tensor:
        return x.logsumexp(1)


def with_loss() -> nn.Module:
    model = net(Block(nn.ReLU()))
    model[2].loss = Loss()
    return model


TOLD: dict[str, tuple[Build, Build, str]] = {
    "attribute": (
        lambda: net(Block(nn.ReLU())),
        lambda: net(Block(nn.ReLU(), scale=0.5)),
        "module '2': found scale=0.5, made for 1.0",
    ),
    "name of a block": (
        lambda: net(Block(nn.ReLU())),
        lambda: net(RenamedBlock(nn.ReLU())),
        "module '2': found class='RenamedBlock', made for 'Block'",
    ),
    "what it says": (
        lambda: net(act=Swish(1.0)),
        lambda: net(act=Swish(1.0, says="calls=3")),
        "module '1': found extra_repr='calls=3', made for 'beta=1.0'",
    ),
    "much that it says": (
        lambda: net(act=Swish(1.0, says="1, " * 999)),
        lambda: net(act=Swish(1.0, says="2, " * 999)),
        "module '1': found extra_repr='[0-9a-f]{64}', made for '[0-9a-f]{64}'",
    ),
    "no loss": (
        with_loss,
        lambda: net(Block(nn.ReLU())),
        r"module '2.loss': found none, made for Loss\(\)",
    ),
    "a loss": (
        lambda: net(Block(nn.ReLU())),
        with_loss,
        r"module '2.loss': found Loss\(\), made for none",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_may_compute_something_else_is_told(kind: str, tmp_path: Path) -> None:
    build, other, found = TOLD[kind]
    path = tmp_path / "codes.safetensors"
    wrapped = saved(build, (6,), path)
    model = with_weights_of(other, wrapped.model)
    text = f"{found}; if that changes what it computes, fit and calibrate again"
    with pytest.warns(UserWarning, match=text):
        nervecode.load(path, model)
    twin = nervecode.wrap(model)
    with pytest.warns(UserWarning, match=text):
        twin.load_state_dict(wrapped.state_dict())


class First(nn.Module):
    """Options whose names have to do with dropping or naming, and change values; a constant."""

    def __init__(self, *, drop_first: bool, name: str, base: float) -> None:
        super().__init__()
        self.drop_first, self.name = drop_first, name
        self.register_buffer("frequencies", base ** -torch.arange(4.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = getattr(nn.functional, self.name)(x * self.frequencies)
        return x[..., 1:] if self.drop_first else x[..., :-1]


def of_options(shape: Any, slope: float, **options: Any) -> nn.Module:
    act = partial(nn.functional.leaky_relu, negative_slope=slope)
    block = nn.TransformerEncoderLayer(4, 2, 8, activation=act)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm(shape), First(**options), block)


def test_options_are_those_that_a_class_declares() -> None:
    """Not what a profiler, a counter or an optimiser hangs on a module; and every word counts."""
    model = of_options((3, 3), 0.1, drop_first=True, name="relu", base=1e4)
    for number, module in enumerate(model.modules()):
        module.flops, module.uid, module.lr_scale = number, str(number), 0.1 * number
    made = Architecture.from_plain(Architecture.of(model).plain())
    same = of_options((3, 3), 0.1, drop_first=True, name="relu", base=1e4)
    assert not list(made.mismatches(same))
    other = of_options(3, 0.2, drop_first=False, name="gelu", base=1e6)
    texts = [each.text for each in made.mismatches(other)]
    assert texts[0] == "module '1': found normalized_shape=3, made for [3, 3]"
    assert "module '2': found drop_first=False, made for True" in texts
    assert "module '2': found name='gelu', made for 'relu'" in texts
    assert any("module '2': found buffer frequencies (4,) of float32=" in text for text in texts)
    assert any("module '3': found activation=['leaky_relu'" in text for text in texts)
    assert len(texts) == 5
    assert not [each for each in made.mismatches(same.half()) if "buffer" in each.text]


def test_a_file_tells_what_its_codes_were_made_for(tmp_path: Path) -> None:
    """Not what the model is when it is saved, or was when it was loaded."""
    path = tmp_path / "codes.safetensors"
    wrapped = saved(net, (6,), path)
    original = copy.deepcopy(wrapped.model)
    wrapped.model[1] = nn.GELU()
    with pytest.warns(UserWarning, match="save: the model has other weights"):
        wrapped.save(path)
    with pytest.raises(InputError, match="another architecture"):
        nervecode.load(path, wrapped.model)
    again = nervecode.load(path, original)
    again.save(path)
    assert nervecode.load(path, original).score(torch.randn(5, 6))[1].valid.all()
    twin = copy.deepcopy(again)
    twin.save(path)
    assert "modules" in read_tensors(path, FORMAT)[0]


def test_files_from_before_do_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    wrapped = saved(net, (6,), path)
    header, tensors = read_tensors(path, FORMAT)
    del header["modules"], header["sha256"]
    save_file(tensors, path, metadata=metadata(FORMAT, header))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = nervecode.load(path, with_weights_of(lambda: net(act=nn.GELU()), wrapped.model))
    assert not told
    again.save(path)
    assert "modules" not in read_tensors(path, FORMAT)[0]


def test_a_damaged_list_of_modules_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    wrapped = saved(net, (6,), path)
    header, tensors = read_tensors(path, FORMAT)
    header["modules"] = [["Linear", 3]]
    del header["sha256"]
    save_file(tensors, path, metadata=metadata(FORMAT, header))
    with pytest.raises(ArtifactError, match="do not fit their description"):
        nervecode.load(path, wrapped.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_any_model_is_of_its_own_architecture(name: str) -> None:
    model = ZOO[name].build()
    found = Architecture.of(model)
    again = Architecture.from_plain(found.plain())
    assert again.parts == found.parts
    assert not list(again.mismatches(model))
    assert not list(again.mismatches(copy.deepcopy(model).half().train()))
    nervecode.wrap(model)
    assert not list(again.mismatches(model))


def test_a_large_network_is_told_in_few_words() -> None:
    blocks = [Block(nn.ReLU()) for _ in range(1000)]
    plain = Architecture.of(nn.Sequential(*blocks)).plain()
    assert len(plain) == 3
    assert len(str(plain)) < 50_000
