"""The label code as a layer of the wrapped model."""

import copy

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.core import ClassMoments, LabelCode
from nervecode.lab.data.samples import Samples
from nervecode.lab.models.build import build_model
from nervecode.lab.schema import ModelConfig
from nervecode.layers import CodingLinear, WrappedModel
from nervecode.layers.fit.head_fit import HeadFit
from tests.layers.zoo import hooks


def data(n: int = 90) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    y = torch.arange(n) % 3
    return torch.randn(n, 5) + 3 * torch.eye(5)[y], y


def mlp() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def fitted(model: nn.Module, **options: object) -> WrappedModel:
    x, y = data()
    return nervecode.wrap(model, "all_linear").fit([(x[:40], y[:40]), (x[40:], y[40:])], **options)


def test_the_label_code_reads_the_heads_input_and_output() -> None:
    model = mlp()
    wrapped = fitted(model)
    x, _ = data()
    logits, traces = wrapped.forward_with_trace(x)
    assert list(traces) == ["0", "2", "2:label"]
    with torch.no_grad():
        features = LabelCode.unit(model[1](model[0](x)))
    moments = ClassMoments.of(features, torch.zeros(len(x), dtype=torch.long), 1)
    expected = LabelCode.fit(moments)(features, logits)
    torch.testing.assert_close(traces["2:label"].surprise, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(traces["2:label"].code.probs, logits.softmax(1))
    parts = traces["2:label"].code
    identity = parts.index_bits + parts.residual_bits - parts.bits_back
    torch.testing.assert_close(identity, parts.bits, atol=1e-4, rtol=0)


def test_fitting_leaves_no_hook_of_its_own_and_unwrap_takes_all() -> None:
    model = mlp()
    wrapped = fitted(model)
    assert hooks(model) == 5  # two of the model, two layers, and the head once more for its label
    wrapped.unwrap()
    assert hooks(model) == 0


def test_outputs_stay_and_fitting_again_does_not_code_twice() -> None:
    model = mlp()
    x, y = data()
    before = model(x)
    wrapped = fitted(model).fit([(x, y)])
    assert torch.equal(wrapped(x), before)
    assert wrapped.layer_names == ("0", "2", "2:label")
    assert len(model[2]._forward_hooks) == 2


@pytest.mark.parametrize("options", [{"label_code": False}, {"num_classes": 7}])
def test_without_a_head_for_the_classes_there_is_no_label_code(options: dict) -> None:
    assert fitted(mlp(), **options).layer_names == ("0", "2")


def test_without_labels_there_is_no_label_code() -> None:
    x, _ = data()
    wrapped = nervecode.wrap(mlp(), "all_linear").fit([x])
    assert wrapped.layer_names == ("0", "2")


class HeadFirst(nn.Module):
    """Registers its head before its body, and a branch as wide as the head that runs before it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.branch, self.body = nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.body(x).relu()
        return self.head(z + self.branch(z).sum(1, keepdim=True))


def test_the_head_is_what_runs_last_wherever_it_is_registered() -> None:
    wrapped = fitted(HeadFirst())
    assert wrapped.layer_names[-1] == "head:label"
    assert len(wrapped.layer_names) == 4
    x, _ = data()
    logits, traces = wrapped.forward_with_trace(x)
    torch.testing.assert_close(traces["head:label"].code.probs, logits.softmax(1))


class CodedHead(nn.Module):
    """Its head carries a coder, whose projection is as wide as the head and runs after it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 8)
        self.head = CodingLinear(8, 3, num_codes=4, coding_dim=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


def test_the_projection_of_a_coding_layer_is_no_head() -> None:
    wrapped = nervecode.wrap(CodedHead(), "body").fit([data()])
    assert wrapped.layer_names == ("body", "head:label")


@pytest.mark.parametrize("name", ["mlp", "vit", "small_cnn", "resnet18"])
def test_every_classifier_of_the_laboratory_has_a_label_code(name: str) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    model = build_model(ModelConfig(name=name, width=8), Samples(x, y), 3)
    assert nervecode.wrap(model).fit([(x, y)]).layer_names[-1] == "head:label"


class Tokens(nn.Module):
    """Ends in a linear layer over tokens: no head of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).unsqueeze(1).expand(-1, 4, -1)).mean(1)


def test_a_last_layer_over_tokens_is_left_alone() -> None:
    assert fitted(Tokens()).layer_names == ("body", "out")


def test_only_what_a_head_can_be_given_is_kept_while_a_batch_runs() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.AdaptiveAvgPool2d((1, 8)), nn.Flatten())
    model.append(nn.Linear(8, 3))
    fit = HeadFit(model, rank=8)
    with fit.watching():
        model(torch.randn(5, 7, 6))
    kept = [rows for calls in fit._seen.values() for rows in calls if rows is not None]
    assert [tuple(rows.shape) for rows in kept] == [(5, 8)]
    fit.update(3)
    assert fit.name == "3"


def test_storage_copies_and_compilation_carry_the_label_code(tmp_path) -> None:
    model = mlp()
    x, _ = data()
    wrapped = fitted(model).calibrate([x])
    wrapped(x)
    expected = wrapped.surprise().surprise
    twin = copy.deepcopy(wrapped)
    twin(x)
    assert torch.equal(twin.surprise().surprise, expected)
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    compiled(x)
    assert torch.equal(twin.surprise().surprise, expected)
    wrapped.save(tmp_path / "codes.safetensors")
    loaded = nervecode.load(tmp_path / "codes.safetensors", wrapped.unwrap())
    loaded(x)
    assert torch.equal(loaded.surprise().surprise, expected)


class Negated(nn.Module):
    """A network that changes what its head returned, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).neg_()


@pytest.mark.parametrize("model", [Negated(), nn.Sequential(nn.Linear(5, 3))])
def test_what_is_done_to_the_logits_later_is_not_read(model: nn.Module) -> None:
    x, y = data()
    wrapped = nervecode.wrap(model, "all_linear").fit([(x, y)], num_classes=3)
    with pytest.warns(UserWarning, match="were fitted to"):
        wrapped.calibrate([x])
    head = next(m for m in model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        expected = head(x)
    output, known = wrapped.score(x)
    code = wrapped._last.get().layers[f"{wrapped.layer_names[0]}:label"].code
    with torch.no_grad():
        output.mul_(-3)
    assert torch.equal(code.best_index, expected.argmax(1))
    torch.testing.assert_close(code.log_probs, expected.log_softmax(1))
    assert torch.equal(wrapped.surprise().score, known.score)
