"""What would be silently wrong: pieces of a batch, unbatched inputs, calls that are made again."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.checkpoint import checkpoint

import nervecode
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import CodeFitter, Coder, WrappedModel
from tests.layers.zoo import mlp

pytestmark = pytest.mark.filterwarnings("ignore:.*(is not coded|was calibrated)")


def batches(seed: int, size: int = 40, n: int = 5) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 6, generator=random), torch.randint(4, (size,), generator=random))
        for _ in range(n)
    ]


def ready(model: nn.Module | None = None) -> WrappedModel:
    torch.manual_seed(0)
    wrapped = nervecode.wrap((mlp() if model is None else model).eval(), "all_linear")
    return wrapped.fit(batches(0)).calibrate(batches(1))


X = torch.linspace(-1, 1, 30).view(5, 6)


# Pieces of a batch


@dataclass
class Record:
    """An argument that does not tell how many inputs it holds."""

    x: Tensor


class Pieces(nn.Module):
    """Runs its batch in pieces of forty."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, record: Record) -> Tensor:
        return torch.cat([self.net(piece) for piece in record.x.split(40)])


@pytest.mark.parametrize("labelled", [True, False])
def test_pieces_of_a_batch_are_not_taken_for_it(labelled: bool) -> None:
    def call(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(Record(batch[0]))

    wrapped = nervecode.wrap(Pieces().eval(), "all_linear")
    wrapped.fit(batches(0), call=call, labels=lambda b: b[1] if labelled else None)
    wrapped.calibrate(batches(1), call=call)
    x = torch.cat([x for x, _ in batches(2)])
    assert wrapped.score(Record(x[:40]))[1].valid.tolist() == [True] * 40
    for size in (80, 90, 200):  # with a shorter last piece, and without
        output, found = wrapped.score(Record(x[:size]))
        assert len(output) == len(found.p_value) == size
        assert not found.valid.any() and found.flag(0.05).all()


# Inputs without a batch


class Tagger(nn.Module):
    def __init__(self, steps: nn.Module) -> None:
        super().__init__()
        self.steps, self.head = steps, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.steps(x)
        return self.head(x[0] if isinstance(x, tuple) else x)


@pytest.mark.parametrize("reduce", ["mean", "max", "tokens", "last_token", "mean_std"])
@pytest.mark.parametrize("steps", [nn.LSTM(6, 8, batch_first=True), nn.Linear(6, 8)])
def test_an_input_without_its_batch_is_not_a_batch_of_its_steps(
    steps: nn.Module, reduce: str
) -> None:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Tagger(steps).eval(), ["head"])
    wrapped.fit([torch.randn(40, 10, 6) for _ in range(3)], reduce=reduce)
    wrapped.calibrate([torch.randn(40, 10, 6) for _ in range(3)])
    assert wrapped.score(torch.randn(4, 7, 6))[1].valid.tolist() == [True] * 4
    found = wrapped.score(torch.randn(10, 6))[1]
    assert not found.valid.any() and found.p_value.isnan().all()


def test_shards_tell_what_one_pass_does_of_an_input_without_its_batch() -> None:
    torch.manual_seed(0)
    model = Tagger(nn.Linear(6, 8)).eval()
    shards = [[torch.randn(40, 10, 6) for _ in range(2)] for _ in range(2)]
    merged = CodeFitter(wrapped := nervecode.wrap(model, ["head"]), reduce="mean")
    for shard in shards:
        fitter = CodeFitter(nervecode.wrap(model, ["head"]), reduce="mean")
        for x in shard:
            with fitter.watching():
                fitter.watched.model(x)
            fitter.update(None)
        merged.merge(fitter.state_dict())
    merged.finish()
    wrapped.calibrate([torch.randn(40, 10, 6)])
    assert wrapped.score(torch.randn(4, 7, 6))[1].valid.all()
    assert not wrapped.score(torch.randn(10, 6))[1].valid.any()
    merged.reducers["head"].assumed_dim = 1
    merged.load_state_dict(CodeFitter(wrapped, reduce="mean").state_dict())
    assert merged.reducers["head"].assumed_dim == 1
    assert not any(reducer.seen_ndims for reducer in merged.reducers.values())


def test_a_fit_is_not_bound_by_the_one_before() -> None:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU()).eval(), ["0"])
    for shape in ((40, 5, 6), (40, 6), (40, 3, 5, 6), (40, 6)):
        batches = [torch.randn(shape) for _ in range(3)]
        wrapped.fit(batches, reduce="mean").calibrate(batches[:1])
        assert wrapped.score(torch.randn(7, *shape[1:]))[1].valid.tolist() == [True] * 7


def test_a_model_of_several_shapes_stays_one(tmp_path) -> None:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU()).eval(), ["0"])
    shapes = [(40, 6), (40, 10, 6), (40, 6)]
    wrapped.fit([torch.randn(shape) for shape in shapes], reduce="mean")
    wrapped.calibrate([torch.randn(shape) for shape in shapes])
    wrapped.save(tmp_path / "a.st")
    for found in (wrapped, nervecode.load(tmp_path / "a.st", copy.deepcopy(wrapped.model))):
        assert found.score(torch.randn(7, 6))[1].valid.all()
        assert found.score(torch.randn(7, 3, 6))[1].valid.all()


# Calls that backward makes


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("fitted", [True, False])
def test_a_wrapped_model_within_a_checkpoint(reentrant: bool, fitted: bool) -> None:
    wrapped = ready() if fitted else nervecode.wrap(mlp(), "all_linear")
    x, bare = X.clone().requires_grad_(), X.clone().requires_grad_()
    wrapped.model(bare).sum().backward()
    expected = wrapped.model(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = checkpoint(wrapped, x, use_reentrant=reentrant)
        before = wrapped.surprise("mean").surprise.detach()
        output.sum().backward()
        assert torch.equal(wrapped.surprise("mean").surprise, before)  # as if it had not run again
        checkpoint(lambda x: wrapped.score(x)[0], x, use_reentrant=reentrant).sum().backward()
    assert torch.equal(output, expected)
    assert torch.allclose(x.grad, 2 * bare.grad)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_loss_of_the_surprise_in_a_checkpoint_is_refused(reentrant: bool) -> None:
    """Of the call that backward makes again nothing is read: that of another is no stand-in."""
    wrapped = nervecode.wrap(mlp(), "all_linear")

    def loss(x: Tensor) -> Tensor:
        wrapped(x)
        return wrapped.surprise().by_layer.pow(2).mean() + 0 * x.sum()

    first, second = X.clone().requires_grad_(), (2 * X).requires_grad_()
    total = sum(checkpoint(loss, x, use_reentrant=reentrant) for x in (first, second))
    with pytest.raises(NotReadyError, match="no trace"):
        total.backward()


def test_a_torch_that_does_not_tell_of_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before 2.8."""
    wrapped = ready()
    expected = wrapped.score(X)[1].p_value
    monkeypatch.delattr(torch._C._autograd, "_top_saved_tensors_default_hooks")
    assert torch.equal(wrapped.score(X.clone().requires_grad_())[1].p_value, expected)


def test_a_score_that_backward_asks_for_is_none() -> None:
    wrapped, found = ready(), []
    x = X.clone().requires_grad_()
    x.register_hook(lambda grad: found.append(wrapped.score(X)[1]))
    x.sum().backward()
    assert not found[0].valid.any()
    assert "one that backward makes" in found[0].remark


# Weights


@pytest.mark.parametrize("seed", range(5))
def test_weights_that_moved_to_a_place_that_was_free_again(seed: int) -> None:
    torch.manual_seed(seed)
    model = mlp()
    own = parameters_to_vector(model.parameters()).detach()
    vector_to_parameters(own.clone(), model.parameters())
    wrapped = ready(model)
    values = parameters_to_vector(model.parameters()).detach()
    vector_to_parameters(values * 2, model.parameters())
    vector_to_parameters(values * 3, model.parameters())
    assert not wrapped.score(X)[1].valid.any()
    vector_to_parameters(values, model.parameters())
    for _ in range(4):  # it is hashed once it stays
        found = wrapped.score(X)[1]
    assert found.valid.all()


def test_buffers_that_are_views_of_conjugates() -> None:
    model = mlp()
    spectrum = torch.randn(4, dtype=torch.cfloat)
    model.register_buffer("conjugate", spectrum.conj())
    model.register_buffer("negative", spectrum.conj().imag)
    assert ready(model).score(X)[1].valid.all()


# The wrapper as the model


class Tempered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.temperature, self.calibration = mlp(), 1.0, "the model's own"

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) / self.temperature


@pytest.mark.filterwarnings("ignore:the model has")
def test_what_is_set_on_the_wrapper_is_set_on_the_model() -> None:
    model = Tempered()
    wrapped = ready(model)
    assert model.calibration == "the model's own"
    before = wrapped(X)
    wrapped.temperature = 2.0
    assert torch.equal(wrapped(X), before / 2)
    twin = copy.deepcopy(wrapped)
    twin.temperature = 4.0
    assert (model.temperature, twin.model.temperature) == (2.0, 4.0)
    wrapped.net = mlp()
    assert model.net is wrapped.net
    assert not wrapped.score(X)[1].valid.any()
    del wrapped.temperature
    assert not hasattr(model, "temperature")


class Attached(nn.Module):
    """Has properties that fail, or cannot be set, and anything that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    @property
    def trainer(self) -> object:
        raise RuntimeError("not attached")

    @trainer.setter
    def trainer(self, value: object) -> None:
        self.given = value

    @property
    def device(self) -> str:
        return "none"

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):
                raise
            return None

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_setting_an_attribute_runs_no_code_of_the_model_but_its_setter() -> None:
    model = Attached()
    wrapped = ready(model)
    wrapped.trainer = 3
    assert model.given == 3
    wrapped.device = "mine"
    wrapped.note = 5
    assert (vars(wrapped)["device"], vars(wrapped)["note"]) == ("mine", 5)
    assert "note" not in vars(model)


def test_what_a_subclass_sets_as_it_is_made_is_its_own() -> None:
    class Headed(WrappedModel):
        def __init__(self, model: nn.Module, coders: dict[str, Coder]) -> None:
            super().__init__(model, coders)
            self.net = nn.Linear(16, 5)

    model = Tempered()
    before = model.net
    coders = {n: c for n, c in zip(["net.0"], ready(Tempered()).coders.values(), strict=False)}
    headed = Headed(model, coders)
    assert model.net is before
    assert headed.net is not before


def test_what_is_set_on_a_wrapper_of_a_wrapper_or_a_compiled_model() -> None:
    for around in (lambda m: nervecode.wrap(m, "all_linear"), torch.compile):
        model = Tempered()
        nervecode.wrap(around(model), "all_linear").temperature = 3.0
        assert model.temperature == 3.0


def test_what_the_wrapper_alone_has_is_its_own() -> None:
    wrapped = ready()
    wrapped.extra = nn.Linear(2, 2)
    wrapped.register_buffer("seen", torch.zeros(1))
    wrapped.note = "of the wrapper"
    state = wrapped.state_dict()
    assert {"extra.weight", "extra.bias", "seen"} <= state.keys()
    assert not wrapped.load_state_dict(state).missing_keys
    assert wrapped.score(X)[1].valid.all()
    assert not hasattr(wrapped.model, "note")


# Copies, and who watches


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_the_hooks_of_a_copied_model_come_off() -> None:
    wrapped = ready()
    copied = copy.deepcopy(wrapped.model)
    with pytest.raises(NotReadyError, match=r"of a copy of the model, wrap\(copy\)\.unwrap\(\)"):
        torch.jit.script(copied)
    torch.jit.script(nervecode.wrap(copied).unwrap())
    assert torch.equal(copied(X), wrapped.model(X))
    for own in (wrapped, copy.deepcopy(wrapped)):
        nervecode.wrap(own.model).unwrap()  # takes off no hook that serves somebody
        assert own.score(X)[1].valid.all()


def test_who_records_sees_the_calls_of_the_wrapper_too() -> None:
    wrapped = ready()
    with wrapped.recording() as traces:
        wrapped.model(X)
        expected = dict(traces)
        for call in (wrapped, wrapped.score):
            traces.clear()
            call(X)
            assert traces.keys() == expected.keys()
            for name, trace in traces.items():
                assert torch.equal(trace.surprise, expected[name].surprise)
        assert wrapped.surprise().valid.all()


def test_codes_are_fitted_to_what_the_wrapper_runs() -> None:
    wrapped, expected = ready(), ready()
    fitter = CodeFitter(wrapped)
    for x, labels in batches(0):
        with fitter.watching():
            wrapped(x)
        fitter.update(labels)
    fitter.finish()
    wrapped.calibrate(batches(1))
    assert torch.equal(wrapped.score(X)[1].p_value, expected.score(X)[1].p_value)


def test_a_surprise_that_is_kept_keeps_no_graph() -> None:
    found = ready().score(X)[1]
    assert not any(t.requires_grad for t in (found.surprise, found.by_layer, found.p_value))
    assert torch.equal(copy.deepcopy(found).by_layer, found.by_layer)


# Graphs that break


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        torch._dynamo.graph_break()
        return self.head(self.second(x).relu())


@pytest.mark.slow
@pytest.mark.parametrize("order", ["compiled, then wrapped", "wrapped, then compiled", "score"])
def test_a_graph_that_breaks_is_watched_uncompiled(order: str) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = Broken()
    expected = ready(copy.deepcopy(model)).score(X)[1].p_value
    told = pytest.warns(UserWarning, match="does not compile to one graph")
    if order == "compiled, then wrapped":
        with told:
            wrapped = ready(torch.compile(model, backend="eager"))
            found = wrapped.score(X)[1]
    else:
        wrapped = ready(model)
        score = order == "score"
        compiled = torch.compile(wrapped.score if score else wrapped, backend="eager")
        with told:
            answer = compiled(X)
        found = answer[1] if score else wrapped.surprise()
    assert found.valid.all()
    assert torch.equal(found.p_value, expected)


def test_what_ran_under_another_autocast_is_not_valid(tmp_path: Path) -> None:
    """Around the call or within the model's own forward; from a file too; calibrated so, it is."""
    wrapped, x = ready(), torch.randn(40, 6)
    wrapped.save(tmp_path / "codes.safetensors")
    loaded = nervecode.load(tmp_path / "codes.safetensors", wrapped.model)
    for one in (wrapped, loaded):
        warned = pytest.warns(UserWarning, match="ran in bfloat16 precision, and in own at cali")
        with warned, torch.autocast("cpu", dtype=torch.bfloat16):
            surprise = one.score(x)[1]
        assert not surprise.valid.any() and surprise.flag(0.1).all()
        assert one.score(x)[1].valid.all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wrapped.calibrate([torch.randn(200, 6)])
        assert wrapped.score(x)[1].valid.all()
    with pytest.warns(UserWarning, match="in own precision, and in bfloat16 at calibration"):
        assert not wrapped.score(x)[1].valid.any()
    with pytest.raises(InputError, match="ran in own precision, allowed: bfloat16 as before"):
        wrapped.calibrate([torch.randn(200, 6)], add=True)


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.low = False

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.low):
            out: Tensor = self.layers(x)
        return out.float()


def test_autocast_within_the_model_is_seen() -> None:
    model, labels = Inside().eval(), torch.arange(200) % 3
    wrapped = nervecode.wrap(model).fit([(torch.randn(200, 8), labels)])
    wrapped.calibrate([torch.randn(200, 8)])
    model.low = True
    with pytest.warns(UserWarning, match="bfloat16 precision"):
        assert not wrapped.score(torch.randn(5, 8))[1].valid.any()


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Any) -> Tensor:
        out: Tensor = self.head(self.gru(x)[1][-1])
        return out


def test_padding_after_a_calibration_on_packed_sequences_is_not_valid() -> None:
    def packed(number: int) -> Any:
        texts = [torch.randn(2 + i % 8, 4) for i in range(number)]
        return nn.utils.rnn.pack_sequence(texts, enforce_sorted=False)

    wrapped = nervecode.wrap(Reader().eval(), ["gru", "head"])
    wrapped.fit([(packed(200), torch.arange(200) % 3)]).calibrate([packed(100)])
    assert wrapped.score(packed(20))[1].valid.all()
    with pytest.warns(UserWarning, match="came with a mask of real positions, and this call with"):
        assert not wrapped.score(torch.randn(20, 30, 4))[1].valid.any()


def test_the_mode_of_the_wrapper_is_that_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(), nn.Linear(16, 3)).eval()
    wrapped = nervecode.wrap(model)
    assert not wrapped.training
    was = wrapped.training
    wrapped.eval()
    wrapped.train(was)
    assert not any(module.training for module in model.modules())
    model.train()
    assert wrapped.training
    wrapped.training = False
    assert not model.training and model[0].training
    assert not wrapped.eval().training and not model[0].training


class CopiesItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        twin = CopiesItself()
        twin.load_state_dict(self.state_dict())
        return twin.train(self.training)


@pytest.mark.parametrize("kind", ["own", "graph"])
def test_a_copy_of_a_wrapped_model_that_copies_itself_is_wrapped(kind: str) -> None:
    """A copied graph has a class, and so a forward, of its own: it has to be calibrated anew."""
    model: nn.Module = CopiesItself().eval()
    model = torch.fx.symbolic_trace(model) if kind == "graph" else model
    wrapped = nervecode.wrap(model).fit([(torch.randn(200, 8), torch.arange(200) % 3)])
    wrapped.calibrate([torch.randn(200, 8)])
    twin, x = copy.deepcopy(wrapped), torch.randn(5, 8)
    assert isinstance(twin, nervecode.WrappedModel) and twin.model is not wrapped.model
    expected = wrapped.score(x)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = twin.score(x)[1]
        if kind == "graph":
            assert not found.valid.any()
            known = wrapped.calibration
            assert known is not None
            twin.set_calibration(known.layers)
            found = twin.score(x)[1]
    assert found.valid.all() and torch.equal(found.p_value, expected.p_value)
