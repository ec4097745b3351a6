"""What a model becomes after its codes were made, and how it is told: never a number of before."""

from __future__ import annotations

import copy
import gc
import hashlib
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import WrappedModel
from nervecode.layers.guard.weights import weights_digest
from nervecode.scoring import AggregatedSurprise

OTHER_WEIGHTS = "the model has other weights than its codes were made for"
pytestmark = pytest.mark.filterwarnings(f"ignore:{OTHER_WEIGHTS}|the model is in training")


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(120, 6, generator=random), torch.arange(120) % 3)]


def network() -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2), nn.ReLU()) for _ in range(2)]
    return nn.Sequential(*blocks, nn.Linear(6, 3)).eval()


def ready(model: nn.Module) -> WrappedModel:
    return nervecode.wrap(model).fit(batches(0)).calibrate(batches(1))


X = torch.linspace(-1, 1, 30).view(5, 6)


def assert_refused(surprise: AggregatedSurprise, why: str) -> None:
    assert why in surprise.remark
    assert not surprise.valid.any() and surprise.p_value.isnan().all() and surprise.flag(0.5).all()


class LowRank(nn.Module):
    """A layer and an addition of low rank, as adapters are."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def adapted(model: nn.Module) -> None:
    model[0][0] = LowRank(model[0][0])


def with_another_head(model: nn.Module) -> None:
    model[2] = nn.Linear(6, 3)


def longer(model: nn.Module) -> None:
    model.append(nn.Linear(3, 3))


def shorter(model: nn.Module) -> None:
    del model[1]


def parametrized(model: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(model[2])


@pytest.mark.parametrize("change", [adapted, with_another_head, longer, shorter, parametrized])
def test_replaced_modules_are_other_weights(change: Callable[[nn.Module], None]) -> None:
    model = network()
    wrapped = ready(model)
    assert wrapped.score(X)[1].valid.all()
    change(model)
    output, surprise = wrapped.score(X)
    assert torch.equal(output, model(X))
    assert_refused(surprise, OTHER_WEIGHTS)


@pytest.mark.filterwarnings("ignore:layer '2.label'")
def test_a_module_replaced_by_its_equal_is_none() -> None:
    model = network()
    wrapped = ready(model)
    expected = wrapped.score(X)[1].p_value
    model[2] = copy.deepcopy(model[2])  # not coded: it has no taps of its own
    assert_refused(wrapped.score(X)[1], "'2:label' was calibrated and did not run")
    model = network()
    wrapped = ready(model)
    model[0][0] = copy.deepcopy(model[0][0])
    assert torch.equal(wrapped.score(X)[1].p_value, expected)


@pytest.mark.filterwarnings("ignore:calibrate. the weights have changed")
@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_another_dtype_is_other_weights(cast: str) -> None:
    model = network()
    wrapped = ready(model)
    getattr(wrapped, cast)()
    x = X.to(model[0][0].weight.dtype)
    output, surprise = wrapped.score(x)
    assert torch.equal(output, model(x))
    assert_refused(surprise, OTHER_WEIGHTS)
    wrapped.calibrate(batches(1))
    assert wrapped.score(x)[1].valid.all()


@pytest.mark.slow
def test_a_compiled_score_looks_at_the_mode() -> None:
    model = network()
    score = torch.compile(ready(model).score, backend="eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as Dynamo warns of caches
        assert score(X)[1].valid.all()
    model.train()
    assert_refused(score(X)[1], "training mode")
    model.eval()
    assert score(X)[1].valid.all()


@pytest.mark.filterwarnings("ignore:calibrate|.*codes were replaced")
def test_a_call_that_a_fit_overtakes_is_not_scored_by_the_new_calibration() -> None:
    begun, fitted = Event(), Event()

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.waits = False

        def forward(self, x: Tensor) -> Tensor:
            output = self.inner(x)
            if self.waits:
                self.waits = False
                begun.set()
                assert fitted.wait(30)
            return output

    model = Slow().eval()
    wrapped = ready(model)
    model.waits = True
    answers: list[AggregatedSurprise] = []
    thread = Thread(target=lambda: answers.append(wrapped.score(X)[1]))
    thread.start()
    assert begun.wait(30)
    other = [(3 + x, labels) for x, labels in batches(2)]
    wrapped.fit(other).calibrate([(3 + x, labels) for x, labels in batches(3)])
    fitted.set()
    thread.join()
    assert_refused(answers[0], "the codes were replaced since the call")
    assert wrapped.score(X)[1].valid.all()


def test_what_is_made_in_inference_mode_is_usable_outside() -> None:
    model = network()
    with torch.inference_mode():
        wrapped = ready(model)
        assert wrapped.score(X)[1].valid.all()
        again = nervecode.wrap(model)
        again.load_state_dict(wrapped.state_dict())
    assert torch.equal(again.score(X)[1].p_value, wrapped.score(X)[1].p_value)


@pytest.mark.filterwarnings("ignore:.*(quantiz|is deprecated)")
def test_a_quantised_copy_of_a_watched_model_runs() -> None:
    model = network()
    wrapped = nervecode.wrap(model, "all_linear").fit(batches(0)).calibrate(batches(1))
    kinds = {nn.Linear}
    bare = torch.ao.quantization.quantize_dynamic(network(), kinds, dtype=torch.qint8)
    copied = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)
    assert torch.equal(copied(X), bare(X))
    assert wrapped.score(X)[1].valid.all()


class Denoiser(nn.Module):
    """Called with the time first, which may be one for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.time, self.body = nn.Linear(1, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.body(x + self.time(t.float().reshape(-1, 1)))


@pytest.mark.filterwarnings("error:calibrate", "ignore:layer 'time' is not coded")
def test_one_time_for_all_inputs_is_not_their_number() -> None:
    loaders = [[{"t": torch.tensor([3]), "x": x} for x, _ in batches(seed)] for seed in (0, 1)]
    wrapped = nervecode.wrap(Denoiser().eval(), ["time", "body"])
    wrapped.fit(loaders[0]).calibrate(loaders[1])
    expected = wrapped.score(torch.full((5,), 3), X)[1]
    assert expected.layers == ("body",) and expected.valid.shape == (5,)
    for t in (torch.tensor(3), torch.tensor([3])):
        assert torch.equal(wrapped.score(t, X)[1].p_value, expected.p_value)
    assert wrapped.score(torch.tensor([3]), X[:1])[1].valid.tolist() == [True]


def test_a_mask_that_is_none_and_no_classes_are_refused() -> None:
    wrapped = ready(network())
    with pytest.raises(InputError, match=r"mask: found list, allowed: \(B, \.\.\.\), 1 at real"):
        wrapped.score(X, mask=[[1] * 6] * 5)
    with pytest.raises(InputError, match="num_classes: found 0, allowed: at least 1"):
        wrapped.fit(batches(0), num_classes=0)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.filterwarnings("ignore:calibrate. the weights have changed")
def test_a_counter_is_a_weight_where_it_is_persistent(persistent: bool) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.register_buffer("calls", torch.zeros(()), persistent=persistent)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(x)

    wrapped = ready(Counting().eval())
    wrapped.score(X)
    assert wrapped.score(X)[1].valid.all() != persistent


# What was not there before


class Bare(nn.Module):
    """A network with places for weights that it lacks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 6, bias=False)
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.head = nn.Linear(6, 3)
        self.register_parameter("scale", None)
        self.register_buffer("shift", None)
        self.register_buffer("cache", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.linear(x))
        h = h if self.scale is None else h * self.scale
        h = h if self.shift is None else h + self.shift
        return self.head(h + getattr(self, "late", 0))


FILLED = {
    "a bias": lambda m: setattr(m.linear, "bias", nn.Parameter(torch.ones(6))),
    "a weight of a norm": lambda m: setattr(m.norm, "weight", nn.Parameter(3 * torch.ones(6))),
    "a parameter": lambda m: setattr(m, "scale", nn.Parameter(3 * torch.ones(6))),
    "a buffer": lambda m: setattr(m, "shift", torch.ones(6)),
    "a new parameter": lambda m: m.register_parameter("late", nn.Parameter(torch.ones(6))),
    "a new buffer": lambda m: m.register_buffer("late", torch.ones(6)),
    "none any more": lambda m: setattr(m.head, "bias", None),
}


@pytest.mark.parametrize("kind", FILLED)
def test_weights_where_there_were_none_are_other_weights(kind: str) -> None:
    model = Bare().eval()
    wrapped = nervecode.wrap(model, "all_linear").fit(batches(0)).calibrate(batches(1))
    assert wrapped.score(X)[1].valid.all()
    FILLED[kind](model)
    output, surprise = wrapped.score(X)
    assert torch.equal(output, model(X))
    assert_refused(surprise, OTHER_WEIGHTS)


def test_a_cache_that_is_filled_is_no_weight() -> None:
    model = Bare().eval()
    wrapped = nervecode.wrap(model, "all_linear").fit(batches(0)).calibrate(batches(1))
    model.cache = torch.ones(6)
    assert wrapped.score(X)[1].valid.all()


# Several threads


def test_no_thread_is_answered_before_changed_weights_are_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = ready(network())
    begun, go_on, digest = Event(), Event(), nervecode.layers.guard.condition.weights_digest

    def slow(model: nn.Module) -> str:
        begun.set()
        assert go_on.wait(30)
        return digest(model)

    monkeypatch.setattr(nervecode.layers.guard.condition, "weights_digest", slow)
    with torch.no_grad():
        wrapped.model[2].weight.mul_(5)
    answers: list[AggregatedSurprise] = []
    threads = [Thread(target=lambda: answers.append(wrapped.score(X)[1])) for _ in range(3)]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(0.2)
    assert not answers  # the others wait for the hash, or make it too
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 3
    for surprise in answers:
        assert_refused(surprise, OTHER_WEIGHTS)


def test_a_fit_hears_of_no_other_thread() -> None:
    """Whatever a served model is asked in the middle of a batch, codes are those of a quiet fit."""
    model = network()
    serving = ready(model)

    def serve(module: nn.Module, _: object) -> None:
        if current_thread() is main_thread():
            thread = Thread(target=lambda: serving.score(9 * X))
            thread.start()
            thread.join()

    quiet = nervecode.wrap(model).fit(batches(0))
    with model[1].register_forward_pre_hook(serve), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the hook, which others may have
        beside = nervecode.wrap(model).fit(batches(0))
    assert list(beside.coders) == list(quiet.coders)
    assert beside.fit_inputs is not None and beside.fit_inputs.distinct == 120
    for name, values in quiet.coders.state_dict().items():
        assert torch.equal(beside.coders.state_dict()[name], values), name


def test_weights_that_change_while_they_are_hashed_are_hashed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = network()
    wrapped = ready(model)
    digest = nervecode.layers.guard.condition.weights_digest

    def overtaken(model: nn.Module) -> str:
        hashed = digest(model)
        monkeypatch.setattr(nervecode.layers.guard.condition, "weights_digest", digest)
        with torch.no_grad():
            model[2].weight.mul_(5)
        return hashed

    monkeypatch.setattr(nervecode.layers.guard.condition, "weights_digest", overtaken)
    with torch.no_grad():
        model[2].weight.mul_(1)
    wrapped.score(X)  # of weights that were hashed before they changed
    assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)


# What moves no version counter


def fused(kind: str, **options: float) -> Callable[[nn.Module], None]:
    def step(model: nn.Module) -> None:
        optimiser = getattr(torch.optim, kind)(model.parameters(), lr=0.1, fused=True, **options)
        model(X).square().sum().backward()
        optimiser.step()
        model.zero_grad()

    return step


def compiled_step(model: nn.Module) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(X).square().sum().backward()
    torch.compile(optimiser.step, backend="eager")()


def from_vector(model: nn.Module) -> None:
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(vector + 1, model.parameters())


def other_data(model: nn.Module) -> None:
    model[2].weight.data = torch.randn(3, 6)


def rounded(model: nn.Module) -> None:
    model.half().float()


UNCOUNTED = {
    "SGD": fused("SGD"), "Adam": fused("Adam"), "AdamW": fused("AdamW"),
    "Adagrad": fused("Adagrad"), "momentum": fused("SGD", momentum=0.9), "compiled": compiled_step,
    "from a vector": from_vector, ".data =": other_data, "rounded": rounded,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:calibrate. the weights have changed")
@pytest.mark.parametrize("kind", UNCOUNTED)
def test_changes_that_count_no_version_are_noticed(kind: str) -> None:
    model = network()
    wrapped = ready(model)
    assert wrapped.score(X)[1].valid.all()
    versions = [p._version for p in model.parameters()]
    UNCOUNTED[kind](model)
    assert [p._version for p in model.parameters()] == versions
    assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)
    wrapped.calibrate(batches(1))
    assert wrapped.score(X)[1].valid.all()


def hashes(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that are hashed from now on."""
    hashed: list[nn.Module] = []
    digest = nervecode.layers.guard.condition.weights_digest
    monkeypatch.setattr(
        nervecode.layers.guard.condition, "weights_digest", lambda m: hashed.append(m) or digest(m)
    )
    return hashed


def test_a_step_of_another_model_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = ready(network())
    hashed = hashes(monkeypatch)
    other = network()
    for _ in range(3):
        fused("AdamW")(other)
        assert wrapped.score(X)[1].valid.all()
    assert not hashed
    fused("SGD")(wrapped.model)
    assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)
    assert len(hashed) == 1


def test_a_model_that_is_gone_is_not_kept_for_its_optimiser() -> None:
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    ready(model).unwrap()
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    optimiser.step()


def unseen(model: nn.Module) -> None:
    """A write that no call can see: save, export and calibrate do."""
    model[2].weight.data.add_(1)


def test_what_is_written_or_measured_again_is_hashed_whatever_calls_see(tmp_path: Path) -> None:
    model = network()
    wrapped = ready(model)
    unseen(model)
    assert wrapped.score(X)[1].valid.all()  # as docs/api.md says
    with pytest.raises(InputError, match=f"export: {OTHER_WEIGHTS}"):
        wrapped.export(tmp_path / "graph.pt2", X)
    assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)
    assert not list(tmp_path.iterdir())

    wrapped = ready(model)
    unseen(model)
    with pytest.warns(UserWarning, match=f"save: {OTHER_WEIGHTS}"):
        wrapped.save(tmp_path / "codes.safetensors")
    wrapped = ready(model)
    unseen(model)
    with pytest.raises(NotReadyError, match=f"calibrate add: {OTHER_WEIGHTS}"):
        wrapped.calibrate(batches(2), add=True)
    wrapped = nervecode.wrap(model).fit(batches(0))
    unseen(model)
    with pytest.warns(UserWarning, match="calibrate: the weights have changed since the fit"):
        wrapped.calibrate(batches(1))


def test_weights_that_are_the_same_again_hold_once_they_rest() -> None:
    model = network()
    wrapped = ready(model)
    first = copy.deepcopy(model.state_dict())
    for seed in range(4):
        torch.manual_seed(seed)
        model.load_state_dict({k: torch.randn_like(v) for k, v in first.items()})
        assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)
    model.load_state_dict(first)
    wrapped.score(X)
    assert wrapped.score(X)[1].valid.all()


@pytest.mark.slow
def test_a_save_says_nothing_of_weights_that_are_the_same_again(tmp_path: Path) -> None:
    model = network()
    wrapped = ready(model)
    first = copy.deepcopy(model.state_dict())
    for _ in range(4):
        model.load_state_dict({k: torch.randn_like(v) for k, v in first.items()})
        wrapped.score(X)
    model.load_state_dict(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.save(tmp_path / "codes.safetensors")
        wrapped.export(tmp_path / "graph.pt2", X)
    assert wrapped.score(X)[1].valid.all()


@pytest.mark.parametrize("calls", [1, 3])
def test_weights_in_training_are_not_hashed_at_each_step(
    calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = ready(network())
    hashed = hashes(monkeypatch)
    for _ in range(20):
        fused("SGD")(wrapped.model)
        for _ in range(calls):
            assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)
    assert len(hashed) == calls + 1


def test_weights_made_in_inference_mode_are_told_of() -> None:
    with torch.inference_mode():
        model = network()
    with pytest.warns(UserWarning, match="6 of the model's weights were made in inference mode, "):
        wrapped = ready(model)
    with torch.inference_mode():
        model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
        assert wrapped.score(X)[1].valid.all()  # as it was told
        with pytest.warns(UserWarning, match="calibrate: the weights have changed since the fit"):
            wrapped.calibrate(batches(1))
        model[2].weight = nn.Parameter(torch.randn(3, 6))
        assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)


def test_weights_can_be_resized_and_freed_as_before() -> None:
    model = network()
    wrapped = ready(model)
    first = wrapped.score(X)[1].p_value
    weight = model[2].weight
    values, storage = weight.detach().clone(), weight.untyped_storage()
    size = storage.nbytes()
    storage.resize_(0)  # as FSDP does between calls
    assert wrapped.condition.complaint(model).startswith(OTHER_WEIGHTS)
    storage.resize_(size)
    weight.data.copy_(values)
    assert torch.equal(wrapped.score(X)[1].p_value, first)


def test_weights_that_cannot_be_read_are_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    wrapped = ready(model)

    def fail(model: nn.Module) -> str:
        raise NotImplementedError

    monkeypatch.setattr(nervecode.layers.guard.condition, "weights_digest", fail)
    fused("SGD")(model)
    output, surprise = wrapped.score(X)
    assert torch.equal(output, model(X))
    assert_refused(surprise, OTHER_WEIGHTS)


def test_the_hash_is_that_of_all_bytes_in_order() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Module())
    model[2].register_buffer("empty", torch.empty(0, 3))
    model[2].register_buffer("turned", torch.randn(3, 4).T)
    model[2].register_buffer("rounded", torch.randn(5).bfloat16())
    state = model.state_dict().values()
    content = b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in map(flat, state))
    assert weights_digest(model) == hashlib.sha256(content).hexdigest()


def flat(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).clone()


@pytest.mark.parametrize("fused", [False, True])
def test_codebooks_that_are_trained_on_are_noticed(fused: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    wrapped = nervecode.wrap(model, "all_linear", detach=True)
    x = torch.randn(50, 6)
    wrapped(x)
    wrapped.calibrate([x])
    twin = copy.deepcopy(wrapped)
    optimizer = torch.optim.SGD(wrapped.coders.parameters(), lr=0.1, fused=fused)
    for _ in range(3):
        wrapped.score(x)
        wrapped(x)
        optimizer.zero_grad()
        wrapped.coding_loss().backward()
        optimizer.step()
    for _ in range(5):  # it is hashed once it rests
        found = wrapped.score(x)[1]
    assert not found.valid.any()
    assert found.remark.startswith("the codebooks have changed since calibration")
    assert twin.score(x)[1].valid.all()
    assert wrapped.calibrate([x]).score(x)[1].valid.all()
