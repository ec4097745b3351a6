"""The answer in a model's output: fits, label codes, predictions and graphs agree on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError
from nervecode.layers import CodeFitter, WrappedModel
from nervecode.layers.batch.answer import answer_of, predicted_classes
from nervecode.layers.graph import Graph

pytestmark = pytest.mark.filterwarnings("ignore:calibrate: ")
RANDOM = torch.Generator().manual_seed(0)
Y = torch.arange(400) % 4
X = torch.randn(400, 8, generator=RANDOM) + 3 * torch.eye(4, 8)[Y]
NEW = torch.randn(40, 8, generator=RANDOM) + 3 * torch.eye(4, 8)[Y[:40]]


class Two(NamedTuple):
    features: Tensor
    scores: Tensor


@dataclass
class CallResult:
    features: Tensor
    scores: Tensor


class Net(nn.Module):
    """A classifier into 4 classes, which names them well, beside layers that others read."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.h = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.aux, self.project = nn.Linear(16, 4), nn.Linear(16, 32)
        self.answer = answer
        with torch.no_grad():
            for layer in (self.a, self.b, self.h, self.aux):
                layer.weight.mul_(0.02).add_(torch.eye(*layer.weight.shape))
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Any:
        z = self.b(self.a(x).relu())
        aux = self.aux(z)
        return self.answer(self, z, aux, self.h(z.relu()))


ANSWERS: dict[str, Callable[..., Any]] = {
    "features before": lambda net, z, aux, logits: (z, logits),
    "features behind": lambda net, z, aux, logits: (logits, z),
    "named tuple": lambda net, z, aux, logits: Two(z, logits),
    "dataclass": lambda net, z, aux, logits: CallResult(z, logits),
    "mapping": lambda net, z, aux, logits: {"z": z, "y": logits},
    "within": lambda net, z, aux, logits: {"all": [z, {"y": logits}], "loss": z.sum()},
    "auxiliary head before": lambda net, z, aux, logits: (-aux, logits),
    "auxiliary head behind": lambda net, z, aux, logits: (logits, aux),
    "projection that runs last": lambda net, z, aux, logits: (net.project(z), logits),
    "log-probabilities": lambda net, z, aux, logits: (z, logits.log_softmax(1)),
    "by their name": lambda net, z, aux, logits: {"y": z, "logits": logits, "x": aux},
    "loss before": lambda net, z, aux, logits: (z.mean(), logits),
}


def logits_of(net: Net, x: Tensor = NEW) -> Tensor:
    return net.h(net.b(net.a(x).relu()).relu())


def fitted(answer: Callable[..., Any], **options: Any) -> WrappedModel:
    return nervecode.wrap(Net(answer).eval(), ["a", "b"]).fit([(X, Y)], **options)


@pytest.mark.parametrize("name", ANSWERS)
def test_classes_label_codes_predictions_and_graphs_are_those_of_the_logits(
    name: str, tmp_path: Path
) -> None:
    wrapped = fitted(ANSWERS[name])
    assert wrapped.layer_names == ("a", "b", "h:label")
    assert wrapped.coder("a").codes.num_classes == 4
    expected = logits_of(wrapped.model).argmax(1)
    plain = fitted(ANSWERS[name], label_code=False).calibrate([X], by_class=True)
    nervecode.layers.storage.save(plain, tmp_path / "codes")
    for one in (plain, nervecode.load(tmp_path / "codes", plain.model)):
        one(NEW)
        assert torch.equal(one._last.get().call.predicted, expected)
    graph = Graph(plain, ["input"])
    output = graph(input=NEW, alpha=torch.tensor(0.1, dtype=torch.float64))["output"]
    assert torch.equal(output.argmax(1), expected)


def test_states_carry_where_the_logits_are_and_new_coders_forget_it() -> None:
    wrapped = fitted(ANSWERS["features before"], label_code=False)
    other = nervecode.wrap(Net(ANSWERS["features before"]).eval(), "a")
    other.load_state_dict(wrapped.state_dict())
    assert other.answer_path == wrapped.answer_path == (1,)
    other.replace_coders({})
    assert other.answer_path is None


class Trained(Net):
    """Returns a loss too where it has labels."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        z = self.b(self.a(x).relu())
        logits = self.h(z.relu())
        return (logits, z) if labels is None else (logits.mean(), logits, z)


def of_trained() -> WrappedModel:
    wrapped = nervecode.wrap(Trained(ANSWERS["mapping"]).eval(), ["a"])
    options = {"call": lambda model, b: model(*b), "labels": lambda batch: batch[1]}
    return wrapped.fit([(X, Y)], label_code=False, **options)


def test_a_part_of_another_width_is_not_the_answer() -> None:
    wrapped = of_trained()
    assert (wrapped.answer_path, wrapped.answer_width) == ((1,), 4)
    expected = wrapped.model(NEW)[0]
    for _ in range(2):
        wrapped.calibrate([X], by_class=True)
        wrapped(NEW)
        assert torch.equal(wrapped._last.get().call.predicted, expected.argmax(1))
        graph = Graph(wrapped, ["input"])
        output = graph(input=NEW, alpha=torch.tensor(0.1, dtype=torch.float64))["output"]
        assert torch.equal(output, expected)
        state, wrapped = wrapped.state_dict(), of_trained()
        wrapped.replace_coders({})
        wrapped.load_state_dict(state)
        assert wrapped.answer_width == 4


def test_calibration_reads_what_the_model_returns_as_the_fit_does() -> None:
    wrapped = fitted(lambda net, z, aux, logits: (aux.mean(), logits, z), label_code=False)
    assert wrapped.answer_path == (1,)
    wrapped.calibrate([X], by_class=True, call=lambda model, x: model(x)[1:])
    assert wrapped.calibration is not None
    assert torch.equal(wrapped.calibration.predicted, logits_of(wrapped.model, X).argmax(1))


def test_the_answer_is_the_only_part_of_its_width_or_none() -> None:
    narrow, wide = torch.rand(3, 4), torch.rand(3, 16)
    assert answer_of((narrow, wide), (1,), 4) is narrow
    assert answer_of({"logits": narrow, "aux": narrow + 1, "z": wide}, ("z",), 4) is narrow
    assert answer_of((narrow, narrow + 1, wide), (2,), 4) is None
    assert answer_of((wide, wide), (1,), 4) is None
    assert answer_of(wide, (1,), 4) is wide
    assert predicted_classes(wide, (), 4) is None


def test_a_call_that_picks_the_answer_tells_which_it_is() -> None:
    pick = {"call": lambda model, batch: model(batch[0])[0], "labels": lambda batch: batch[1]}
    wrapped = nervecode.wrap(Net(ANSWERS["features before"]).eval(), ["a"])
    with pytest.warns(UserWarning, match="fit: 12 of 16 classes had no input$"):
        wrapped.fit([(X, Y)], **pick)
    assert wrapped.layer_names == ("a", "b:label")


def test_num_classes_tells_the_width() -> None:
    answer = ANSWERS["features before"]
    assert fitted(answer, num_classes=4).layer_names[-1] == "h:label"
    with pytest.warns(UserWarning, match=r"12 of 16 classes had no input; they are those of outp"):
        assert fitted(answer, num_classes=16).layer_names[-1] == "b:label"


def test_a_layer_as_wide_as_the_logits_is_no_head() -> None:
    class Convolution(nn.Module):
        """Its logits come from a convolution; a linear layer of 4 outputs weighs channels."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv1d(1, 4, 1), nn.Conv1d(4, 4, 1)
            self.squeeze = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = self.body(x.unsqueeze(1))
            return self.head(z * self.squeeze(-z.mean(2)).unsqueeze(2)).mean(2)

    torch.manual_seed(3)
    model = Convolution().eval()
    agree = model(X).argmax(1) == model.squeeze(-model.body(X.unsqueeze(1)).mean(2)).argmax(1)
    assert agree.float().mean() < 0.5
    assert nervecode.wrap(model, "body").fit([(X, Y)]).layer_names == ("body",)


def test_a_single_logit_predicts_no_class() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
    assert predicted_classes(model(X)) is None
    wrapped = nervecode.wrap(model, ["0"]).fit([(X, Y % 2)], num_classes=2, label_code=False)
    with pytest.raises(InputError, match="found no predicted classes"):
        wrapped.calibrate([X], by_class=True)
    with pytest.raises(
        InputError, match=r"0 to 1, allowed: 0 to 0; of a single logit .* num_classes=2"
    ):
        wrapped.fit([(X, Y % 2)])


def test_a_model_that_answers_otherwise_than_it_was_fitted_has_no_predictions() -> None:
    wrapped = fitted(ANSWERS["features before"], label_code=False).calibrate([X], by_class=True)
    assert wrapped.score(NEW)[1].valid.all()
    graph = Graph(wrapped, ["input"])
    wrapped.model.answer = ANSWERS["mapping"]
    assert wrapped.score(NEW)[1].valid.all()  # one part alone has a column for each class
    wrapped.model.answer = lambda net, z, aux, logits: {"z": z, "wide": net.project(z)}
    with pytest.warns(UserWarning, match="the predicted classes are not known"):
        assert not wrapped.score(NEW)[1].valid.any()
    with pytest.raises(InputError, match="export: the model returns dict, without logits of 4 cl"):
        graph(input=NEW, alpha=torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dataclass", "within"])
def test_a_compiled_graph_reads_the_same_part(name: str) -> None:
    wrapped = fitted(ANSWERS[name], label_code=False).calibrate([X], by_class=True)
    expected = wrapped.score(NEW)[1].p_value
    torch._dynamo.reset()
    compiled = torch.compile(wrapped.score, backend="eager")
    torch.testing.assert_close(compiled(NEW)[1].p_value, expected)


def test_without_a_fit_it_is_the_named_or_the_first_part() -> None:
    one, two = torch.rand(3, 4), torch.rand(3, 5)
    assert answer_of((one.mean(), (one,), two)) is two
    assert answer_of({"x": one, "logits": two}) is two
    assert answer_of({"x": [one], "y": [two]}) is one
    assert answer_of(one, (7, "x")) is one
    assert answer_of((one, two), (7, "x")) is answer_of((one, two), ("logits",)) is None
    assert answer_of({"x": one, "logits": two}, (1,)) is two
    assert answer_of("text") is None


def test_few_inputs_of_a_class_are_told() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    with pytest.warns(UserWarning) as caught:
        nervecode.wrap(model, "0").fit([(X[:6], Y[:6] * (Y[:6] < 3))])
    assert [str(w.message) for w in caught] == [
        "fit: 1 of 4 classes had no input",
        "fit: 1 of 4 classes had a single input, which tells nothing of the spread within them",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nervecode.wrap(model, "0").fit([(X, Y)])
        nervecode.wrap(model, "0").fit([X[:2]])


@pytest.mark.parametrize("first", [True, False])
def test_labels_are_in_all_batches_or_in_none(first: bool) -> None:
    batches = [(X, Y), X] if first else [X, (X, Y)]
    words = "no labels, in earlier batches labels" if first else "labels, in earlier batches none"
    with pytest.raises(InputError, match=f"^fit: batch 1: found {words}; allowed: in all or none"):
        nervecode.wrap(Net(ANSWERS["loss before"]).eval(), "a").fit(batches)


def test_shards_tell_where_the_logits_are() -> None:
    models = [Net(ANSWERS["features before"]).eval() for _ in range(2)]
    one, two = (CodeFitter(nervecode.wrap(model, "a")) for model in models)
    with torch.no_grad(), one.watching():
        models[0](X)
    one.update(Y)
    two.load_state_dict(one.state_dict())
    two.finish()
    assert two.watched.answer_path == (1,)
    assert two.watched.layer_names == ("a", "h:label")


class Supervised(nn.Module):
    """Answers with shares, and has an auxiliary head that nearly says the same and runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 3)
        self.auxiliary = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        logits = self.head(hidden)
        self.auxiliary(hidden)
        return logits.softmax(1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("empty_first", [False, True])
def test_the_head_is_what_the_answer_is_the_softmax_of(seed: int, empty_first: bool) -> None:
    torch.manual_seed(seed)
    model = Supervised().eval()
    with torch.no_grad():
        model.auxiliary.weight.copy_(model.head.weight + 0.01 * torch.randn(3, 8))
        model.auxiliary.bias.copy_(model.head.bias)
    x, y = torch.randn(200, 6), torch.arange(200) % 3
    batches = [(x[:0], y[:0])] * empty_first + [(x, y)]
    assert nervecode.wrap(model).fit(batches).layer_names[-1] == "head:label"


def test_the_head_is_found_where_the_answer_is_of_another_precision() -> None:
    """As under autocast, where layers give bfloat16 and the model answers in float32."""

    class Widened(Supervised):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.head(self.body(x))
            return logits.float().softmax(1)

    x, y = torch.randn(200, 6), torch.arange(200) % 3
    assert nervecode.wrap(Widened().eval()).fit([(x, y)]).layer_names[-1] == "head:label"


def test_a_model_that_returns_a_number_alone_is_calibrated() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x).mean()

    wrapped = nervecode.wrap(Loss().eval()).fit([torch.randn(50, 6)])
    wrapped.calibrate([torch.randn(150, 6)])
    assert wrapped.score(torch.randn(4, 6))[1].valid.all()


@dataclass
class Parts:
    hidden: Tensor
    number: int = 0


def test_a_layer_that_returns_a_dataclass_is_coded() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 8)

        def forward(self, x: Tensor) -> Parts:
            return Parts(self.layer(x).relu())

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = Inner(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.inner(x).hidden)

    x, y = torch.randn(200, 6), torch.arange(200) % 3
    for layers in (["inner"], {"inner": "hidden"}):
        wrapped = nervecode.wrap(Outer().eval(), layers).fit([(x, y)])
        assert wrapped.layer_names == ("inner", "head:label")
        assert wrapped.forward_with_trace(x)[1]["inner"].vector.shape == (200, 8)
    with pytest.warns(UserWarning, match="Parts, which has no part 'hiden'"):
        nervecode.wrap(Outer().eval(), {"inner": "hiden"})(x)
