"""Exported graphs answer as the wrapped model does, and what cannot be exported is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError, MissingExtraError, NotReadyError
from nervecode.layers import WrappedModel
from nervecode.layers.export import METADATA, named_inputs
from nervecode.layers.graph import OUTPUTS
from nervecode.layers.onnx_forms import exact_forms
from nervecode.layers.watched import predicted_classes

ALPHA = torch.tensor(0.05, dtype=torch.float64)
SHAPE = (3, 8, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).relu_()).neg_()  # what was watched, changed


def data(number: int, seed: int) -> Tensor:
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def wrapped() -> WrappedModel:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Net().eval(), ["stem", "body", "head"])
    wrapped.fit([(data(120, 0), torch.arange(120) % 4)])
    return wrapped.calibrate([data(150, 1)])


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, wrapped: WrappedModel
) -> tuple[nn.Module, dict[str, Any]]:
    """A graph as it is read from its file, and what the file says of itself."""
    path = tmp_path_factory.mktemp("graphs") / "model.pt2"
    wrapped.export(path, data(1, 2), metadata={"classes": ["a", "b", "c", "d"]})
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), json.loads(extra[METADATA])


def assert_same(found: dict[str, Tensor], wrapped: WrappedModel, x: Tensor) -> None:
    with torch.no_grad():
        output, surprise = wrapped.score(x)
    torch.testing.assert_close(found["output"], output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["surprise"], surprise.surprise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["by_layer"], surprise.by_layer, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["p_value"], surprise.p_value, rtol=0, atol=1.01 / 151)
    torch.testing.assert_close(found["percentile"], surprise.percentile, rtol=0, atol=1.01 / 150)
    assert (found["p_value"] == surprise.p_value).double().mean() > 0.9  # but at ties
    assert torch.equal(found["flag"], found["p_value"] <= ALPHA)
    assert found["smallest_alpha"].item() == 1 / 151


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_traced_graph_is_the_wrapped_model(
    batch: int, exported: tuple[nn.Module, Any], wrapped: WrappedModel
) -> None:
    x = 1.3 * data(batch, 3)
    with torch.no_grad():
        found = exported[0](input=x, alpha=ALPHA)
    assert tuple(found) == OUTPUTS
    assert_same(found, wrapped, x)


HUGE = (1e19, 1e25)


@pytest.mark.parametrize("size", HUGE)
def test_what_overflows_is_flagged(
    size: float, exported: tuple[nn.Module, Any], wrapped: WrappedModel
) -> None:
    x = torch.full((2, *SHAPE), size)
    with torch.no_grad():
        found = exported[0](input=x, alpha=ALPHA)
        with pytest.warns(UserWarning, match="NaN or infinity"):
            surprise = wrapped.score(x)[1]
    assert torch.equal(found["p_value"], surprise.p_value)
    assert found["p_value"].tolist() == [1 / 151] * 2
    assert found["flag"].all()


def test_alpha_can_be_moved_after_export(exported: tuple[nn.Module, Any]) -> None:
    graph, _ = exported
    x = 1.3 * data(64, 3)
    counts = []
    with torch.no_grad():
        for alpha in (0.01, 0.1, 0.5):
            found = graph(input=x, alpha=torch.tensor(alpha, dtype=torch.float64))
            assert torch.equal(found["flag"], found["p_value"] <= alpha)
            counts.append(int(found["flag"].sum()))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_file_says_what_it_is(
    exported: tuple[nn.Module, dict[str, Any]], wrapped: WrappedModel
) -> None:
    _, about = exported
    assert about["version"] == nervecode.__version__
    assert about["layers"] == ["stem", "body", "head", "head:label"]
    assert about["calibration_inputs"] == 150
    assert about["weights"] == wrapped.condition.digest
    assert about["inputs"] == {"input": [None, *SHAPE]}
    assert about["classes"] == ["a", "b", "c", "d"]


@pytest.mark.slow
def test_codes_can_be_exported_alone(tmp_path: Path, wrapped: WrappedModel) -> None:
    wrapped.export(tmp_path / "codes.pt2", data(2, 2), codes_only=True)
    program = torch.export.load(tmp_path / "codes.pt2")
    assert all(name == "smallest" or name.startswith("coders.") for name in program.state_dict)
    graph = program.module()
    x = data(5, 4)
    model = wrapped.model
    with torch.no_grad():
        stem = model.stem(x)
        body = model.body(stem)
        logits = model.head(body.relu())
        layers = {"stem": stem, "body": body, "head": logits}
        layers |= {"head:label/0": body.relu(), "head:label/1": logits}
        found = graph(activations=layers, alpha=ALPHA)
    assert_same({"output": -logits, **found}, wrapped, x)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 64])
def test_onnx_is_the_wrapped_model(batch: int, tmp_path: Path, wrapped: WrappedModel) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    wrapped.export(tmp_path / "model.onnx", data(1, 2))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    assert [given.name for given in session.get_inputs()] == ["input", "alpha"]
    assert names == list(OUTPUTS)
    assert session.get_inputs()[0].shape == ["batch", *SHAPE]
    assert session.get_outputs()[0].shape == ["batch", 4]
    assert "nervecode.weights" in session.get_modelmeta().custom_metadata_map
    x = 1.3 * data(batch, 3)
    values = session.run(None, {"input": x.numpy(), "alpha": ALPHA.numpy()})
    assert_same(dict(zip(names, map(torch.from_numpy, values), strict=True)), wrapped, x)
    for size in HUGE:  # ONNX's Clip makes infinity the largest float
        x = torch.full((2, *SHAPE), size)
        values = session.run(["p_value"], {"input": x.numpy(), "alpha": ALPHA.numpy()})
        assert values[0].tolist() == [1 / 151] * 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["max", "simes", "harmonic"])
def test_other_methods_in_onnx(method: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    wrapped = nervecode.wrap(net).fit([torch.randn(400, 20)])
    wrapped.calibrate([torch.randn(99, 20)], method=method)
    wrapped.export(tmp_path / "model.onnx", torch.randn(3, 20))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    x = torch.cat([1.2 * torch.randn(200, 20), torch.full((1, 20), 1e19)])
    given = {"input": x.numpy(), "alpha": ALPHA.numpy()}
    p_value, percentile = session.run(["p_value", "percentile"], given)
    with torch.no_grad(), pytest.warns(UserWarning, match="NaN or infinity"):
        surprise = wrapped.score(x)[1]
    assert p_value[-1] == surprise.p_value[-1] == 1 / 100
    assert (torch.from_numpy(p_value) == surprise.p_value).double().mean() > 0.98
    # Scores of combined p-values tie with those of calibration: no logarithm may part them.
    assert (torch.from_numpy(percentile) == surprise.percentile).double().mean() > 0.98


@pytest.mark.slow
def test_what_a_sure_head_loses_is_the_same_in_onnx(tmp_path: Path) -> None:
    """Regrets of 1e-18 bits order half of the inputs: exp(x) - 1 would make all of them 0."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 16), nn.Identity(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        net[2].weight.mul_(300)
    wrapped = nervecode.wrap(net).fit([(torch.randn(300, 20), torch.arange(300) % 3)])
    wrapped.calibrate([torch.randn(400, 20)])
    wrapped.export(tmp_path / "model.onnx", torch.randn(3, 20))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    x = torch.randn(500, 20)
    given = {"input": x.numpy(), "alpha": ALPHA.numpy()}
    p_value, by_layer = map(torch.from_numpy, session.run(["p_value", "by_layer"], given))
    with torch.no_grad():
        _, surprise = wrapped.score(x)
    regret = surprise.layer("2:label")
    assert regret.median() < 1e-12
    torch.testing.assert_close(by_layer[:, -1], regret, rtol=1e-3, atol=0)
    assert (p_value == surprise.p_value).double().mean() > 0.98


@pytest.mark.slow
def test_no_digit_is_lost_in_onnx() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    sizes = [0.0, *np.logspace(-320, 3, 400), np.inf]
    x = np.array([*sizes, *(-size for size in sizes), -1.0, np.nan])

    class Net(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.expm1(), x.log1p()

    program = torch.export.export(Net(), (torch.from_numpy(x),))
    model = torch.onnx.export(program, verbose=False, custom_translation_table=exact_forms())
    assert model is not None
    session = runtime.InferenceSession(model.model_proto.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: x})
    with np.errstate(all="ignore"):
        for values, expected in zip(found, (np.expm1(x), np.log1p(x)), strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-15, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_more_classes_than_dimensions_are_exported(suffix: str, tmp_path: Path) -> None:
    """What the background saves has as many directions as each layer, which differ."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 12), nn.ReLU()).eval()
    model.append(nn.Linear(12, 20))
    x = torch.randn(400, 6)
    wrapped = nervecode.wrap(model, ["0", "2"]).fit([(x, torch.arange(400) % 20)])
    wrapped.calibrate([torch.randn(150, 6)])
    assert {coder.codes.saving.shape for coder in list(wrapped.coders.values())[:2]} == {
        (20, 9), (20, 12)
    }  # fmt: skip
    path = tmp_path / f"many{suffix}"
    wrapped.export(path, x[:2])
    assert_same(read(path, {"input": x[:40]}), wrapped, x[:40])


def by_class(number: int) -> WrappedModel:
    """A wrapper with p-values within the predicted class, where that has inputs enough."""
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Net().eval(), ["stem", "head"])
    wrapped.fit([(data(120, 0), torch.arange(120) % 4)])
    wrapped.calibrate([data(number, 1)], by_class=True)
    assert wrapped.calibration is not None and wrapped.calibration.class_sizes
    return wrapped


@pytest.mark.slow
@pytest.mark.parametrize("number", [151, 260])
def test_p_values_within_classes_are_exported(number: int, tmp_path: Path) -> None:
    wrapped = by_class(number)
    wrapped.export(tmp_path / "model.pt2", data(1, 2))
    graph = torch.export.load(tmp_path / "model.pt2").module()
    x = 1.3 * data(64, 3)
    with torch.no_grad():
        found, surprise = graph(input=x, alpha=ALPHA), wrapped.score(x)[1]
    torch.testing.assert_close(found["p_value"], surprise.p_value, rtol=0, atol=1 / 50)
    assert (found["p_value"] == surprise.p_value).double().mean() > 0.9  # but at ties


@pytest.mark.slow
def test_p_values_within_classes_are_the_same_in_onnx(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    wrapped = by_class(260)
    wrapped.export(tmp_path / "model.onnx", data(1, 2))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    x = 1.3 * data(64, 3)
    [p_value] = session.run(["p_value"], {"input": x.numpy(), "alpha": ALPHA.numpy()})
    assert (p_value == wrapped.score(x)[1].p_value.numpy()).mean() > 0.9


def in_onnx_runtime(wrapped: WrappedModel, path: Path, x: Tensor) -> dict[str, Tensor]:
    """What ONNX Runtime answers to x, from a graph that was exported with another example."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    wrapped.export(path, x[:3])
    session = runtime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    values = session.run(None, {"input": x.numpy(), "alpha": ALPHA.numpy()})
    return dict(zip(names, map(torch.from_numpy, values), strict=True))


@pytest.mark.slow
def test_learned_codes_load_in_onnx_runtime(tmp_path: Path) -> None:
    """They have no fitted readings, and ONNX Runtime takes no tensor without elements."""
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Net().eval(), ["body", "head"]).calibrate([data(150, 1)])
    x = 1.3 * data(16, 3)
    assert_same(in_onnx_runtime(wrapped, tmp_path / "model.onnx", x), wrapped, x)


@pytest.mark.slow
def test_fishers_method_is_exported(tmp_path: Path) -> None:
    """ONNX has no lgamma."""
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Net().eval(), ["body", "head"])
    wrapped.fit([data(120, 0)]).calibrate([data(150, 1)], method="fisher")
    x = 1.3 * data(16, 3)
    assert_same(in_onnx_runtime(wrapped, tmp_path / "model.onnx", x), wrapped, x)


@pytest.mark.parametrize("layers", [["0"], ["0", "2"]])
def test_codes_by_position_are_refused_first(layers: list[str], tmp_path: Path) -> None:
    maps = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2)).eval()
    wrapped = nervecode.wrap(maps, layers)
    wrapped.fit([data(60, 0)], by_position=True).calibrate([data(150, 1)])
    with pytest.raises(InputError, match=r"^export: codes by position cannot be exported; fit"):
        wrapped.export(tmp_path / "model.pt2", torch.zeros(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("codes_only", [False, True])
@pytest.mark.parametrize(
    ("scale", "told"),
    [
        (float("nan"), "found NaN or infinity in 'input', allowed: finite inputs, such as a"),
        (1e38, "found NaN or infinity in the codes of finite inputs, allowed"),
    ],
)
def test_an_example_that_is_not_finite_is_told_as_such(
    codes_only: bool, scale: float, told: str, tmp_path: Path, wrapped: WrappedModel
) -> None:
    with pytest.raises(InputError, match=f"^export example: {told}"):
        wrapped.export(tmp_path / "model.pt2", scale * data(3, 2), codes_only=codes_only)
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_sentence(tmp_path: Path, wrapped: WrappedModel) -> None:
    with pytest.raises(InputError, match=r"model\.onx: unknown suffix '\.onx'; did you mean"):
        wrapped.export(tmp_path / "model.onx", data(1, 2))
    with pytest.raises(InputError, match=r"example: found shapes .*\(2, 5, 8, 8\)"):
        wrapped.export(tmp_path / "model.pt2", torch.zeros(2, 5, 8, 8))
    with pytest.raises(InputError, match=r"example: found shapes .*\(2, 5, 8, 8\)"):
        wrapped.export(tmp_path / "model.pt2", torch.zeros(2, 5, 8, 8), codes_only=True)
    fresh = nervecode.wrap(Net().eval(), ["stem"])
    with pytest.raises(NotReadyError, match="export: not calibrated"):
        fresh.export(tmp_path / "model.pt2", data(1, 2))
    assert not list(tmp_path.iterdir())


def test_more_than_an_onnx_file_holds_is_refused(
    tmp_path: Path, wrapped: WrappedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("nervecode.layers.export.MAX_ONNX", 1000)
    with pytest.raises(InputError, match=r"of weights, allowed in an ONNX file: 1,000; \.pt2"):
        wrapped.export(tmp_path / "model.onnx", data(1, 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"smallest_alpha": 1e-9}, "found the name 'smallest_alpha', allowed: a text other than"),
        ({3: "x"}, "found the name 3, allowed: a text"),
        ({"mean": torch.zeros(3)}, "'mean': allowed: JSON values.*Tensor is not JSON"),
        ({"std": [1.0, float("nan")]}, "'std': allowed: JSON values, without NaN or infinity"),
    ],
)
def test_metadata_is_checked_before_the_work(
    metadata: dict[Any, Any],
    told: str,
    tmp_path: Path,
    wrapped: WrappedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nervecode.layers.export.trace", lambda *_: pytest.fail("traced"))
    with pytest.raises(InputError, match=told):
        wrapped.export(tmp_path / "model.pt2", data(1, 2), metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_numbers_that_onnx_runtime_lacks_are_refused(tmp_path: Path, wrapped: WrappedModel) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match=r"'input' of torch\.bfloat16, which ONNX Runtime"):
        wrapped.export(tmp_path / "model.onnx", data(1, 2).bfloat16())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnx_ir"])
def test_every_package_that_onnx_needs_is_asked_for(
    missing: str, tmp_path: Path, wrapped: WrappedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervecode.errors.find_spec", lambda name: name != missing or None)
    with pytest.raises(MissingExtraError, match=rf"needs {missing}, which .*\[export\]"):
        wrapped.export(tmp_path / "model.onnx", data(1, 2))


class Named(Net):
    """Returns what it computes on the way as well."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        hidden = self.body(self.stem(x))
        return {"hidden": hidden, "logits": self.head(hidden.relu())}


@pytest.mark.slow
def test_logits_are_the_output_wherever_they_stand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(Named().eval(), ["stem", "head"])
    wrapped.fit([data(120, 0)]).calibrate([data(260, 1)], by_class=True)
    wrapped.export(tmp_path / "model.pt2", data(1, 2))
    x = 1.3 * data(64, 3)
    with torch.no_grad():
        found = torch.export.load(tmp_path / "model.pt2").module()(input=x, alpha=ALPHA)
        output, surprise = wrapped.score(x)
    torch.testing.assert_close(found["output"], output["logits"])
    assert torch.equal(predicted_classes(output), output["logits"].argmax(1))
    assert (found["p_value"] == surprise.p_value).double().mean() > 0.9  # but at ties


def test_a_model_that_cannot_be_traced_is_told_about_its_codes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Branching(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.mean()) > 0 else -x)

    torch.manual_seed(0)
    wrapped = nervecode.wrap(Branching().eval(), ["stem"])
    wrapped.fit([(data(60, 0), torch.arange(60) % 4)]).calibrate([data(150, 1)])
    line = Branching.forward.__code__.co_firstlineno + 1
    place = rf"in forward, .*test_export\.py:{line}: Could not guard"
    with pytest.raises(InputError, match=f"cannot be traced {place}.*codes_only=True"):
        wrapped.export(tmp_path / "model.pt2", data(2, 2))
    assert capfd.readouterr() == ("", "")  # torch writes the graph and logs
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Steps(nn.Module):
    """Reads padded series, of whose lengths it may be told."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        states = self.rnn(x)[0]
        if attention_mask is None:
            return self.head(states.mean(1))
        return self.head((states * attention_mask.unsqueeze(2)).sum(1))


def series(number: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = torch.arange(9) < torch.randint(2, 10, (number, 1), generator=generator)
    x = torch.randn(number, 9, 4, generator=generator) * real.unsqueeze(2)
    return {"x": x, "attention_mask": real}


def read(path: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a file answers: by torch, or by ONNX Runtime."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(**inputs, alpha=ALPHA)  # type: ignore[no-any-return]
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path))
    given = {name: tensor.numpy() for name, tensor in {**inputs, "alpha": ALPHA}.items()}
    names = [output.name for output in session.get_outputs()]
    return {
        name: torch.from_numpy(np.asarray(value))
        for name, value in zip(names, session.run(None, given), strict=True)
    }


FORMATS = [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_graph_takes_the_mask_that_calibration_had(suffix: str, tmp_path: Path) -> None:
    def real(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": batch["x"], "real": batch["attention_mask"]}

    wrapped = nervecode.wrap(Steps().eval(), ["rnn", "head"])
    wrapped.fit([real(series(99, 0))], mask="real").calibrate([real(series(150, 1))], mask="real")
    path, example, batch = tmp_path / f"model{suffix}", series(1, 2), series(40, 3)
    with pytest.raises(InputError, match=r"came with a mask of real positions, .* mask=MASK"):
        wrapped.export(path, example["x"])
    assert not path.exists()
    about = wrapped.export(path, example["x"], mask=example["attention_mask"].long())
    assert about["inputs"] == {"input": [None, 9, 4], "mask": [None, 9]}
    found = read(path, {"input": batch["x"], "mask": batch["attention_mask"]})
    with torch.no_grad():
        expected = wrapped.score(batch["x"], mask=batch["attention_mask"])[1]
    torch.testing.assert_close(found["by_layer"], expected.by_layer, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["p_value"], expected.p_value, rtol=0, atol=1.01 / 151)


@pytest.mark.slow
def test_a_graph_of_a_model_that_is_told_itself_needs_no_mask(tmp_path: Path) -> None:
    wrapped = nervecode.wrap(Steps().eval(), ["rnn", "head"])
    wrapped.fit([series(99, 0)]).calibrate([series(150, 1)])
    path, batch = tmp_path / "model.pt2", series(40, 3)
    with pytest.raises(InputError, match="came with a mask of real positions"):
        wrapped.export(path, series(5, 2)["x"])
    wrapped.export(path, series(5, 2))
    found = read(path, batch)
    with torch.no_grad():
        expected = wrapped.score(**batch)[1]
    torch.testing.assert_close(found["p_value"], expected.p_value, rtol=0, atol=1.01 / 151)


@pytest.mark.slow
def test_codes_alone_are_told_of_no_padding(tmp_path: Path) -> None:
    for layers, refused in ((["rnn", "head"], True), (["head"], False)):
        wrapped = nervecode.wrap(Steps().eval(), layers)
        wrapped.fit([series(99, 0)]).calibrate([series(150, 1)])
        path = tmp_path / "codes.pt2"
        if refused:
            with pytest.raises(InputError, match=r"codes_only=True: .* layer 'rnn' has positions"):
                wrapped.export(path, series(5, 2), codes_only=True)
            assert not path.exists()
        else:
            wrapped.export(path, series(5, 2), codes_only=True)


def test_a_mask_of_a_graph_is_checked(tmp_path: Path, wrapped: WrappedModel) -> None:
    path = tmp_path / "model.pt2"
    with pytest.raises(InputError, match=r"mask: found str, allowed: \(B, ...\), 1 at real"):
        wrapped.export(path, data(2, 0), mask="all")
    with pytest.raises(InputError, match=r"found batches .*'mask': \(3,\)"):
        wrapped.export(path, data(2, 0), mask=torch.ones(3, 8))
    with pytest.raises(InputError, match="found an input and an option 'mask', allowed: one"):
        wrapped.export(path, {"mask": data(2, 0)}, mask=torch.ones(2, 8))
    with pytest.raises(InputError, match="codes_only=True: the codes alone take no mask="):
        wrapped.export(path, data(2, 0), mask=torch.ones(2, 8), codes_only=True)


class StepsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.LSTM(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.transpose(0, 1))[0][-1])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_codes_alone_of_layers_with_steps_first(suffix: str, tmp_path: Path) -> None:
    """Their batch is the second dimension, of which a graph takes any number."""
    model = StepsFirst().eval()
    wrapped = nervecode.wrap(model, ["rnn", "head"])
    x = torch.randn(300, 6, 4, generator=torch.Generator().manual_seed(0))
    wrapped.fit([(x[:150], torch.arange(150) % 3)]).calibrate([x[150:]])
    path = tmp_path / f"codes{suffix}"
    about = wrapped.export(path, x[:5], codes_only=True)
    assert about["inputs"] == {
        "rnn": [6, None, 8], "head": [None, 3], "head:label/0": [None, 8], "head:label/1": [None, 3]
    }  # fmt: skip
    batch = x[:9] + 0.3
    with torch.no_grad():
        states = model.rnn(batch.transpose(0, 1))[0]
        logits, expected = wrapped.score(batch)
    layers = {
        "rnn": states, "head": logits, "head:label/0": states[-1], "head:label/1": logits,
    }  # fmt: skip
    found = read(path, layers if suffix == ".onnx" else {"activations": layers})  # type: ignore[dict-item]
    torch.testing.assert_close(found["by_layer"], expected.by_layer, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["p_value"], expected.p_value, rtol=0, atol=1.01 / 151)


def test_codes_alone_that_cannot_be_traced_are_not_advised_to_be(
    wrapped: WrappedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no graph")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(InputError, match=r"^export: the codes cannot be traced .*: no graph$"):
        wrapped.export(tmp_path / "codes.pt2", data(2, 0), codes_only=True)
    with pytest.raises(InputError, match=r"^export: the model cannot be traced .* codes_only="):
        wrapped.export(tmp_path / "model.pt2", data(2, 0))


def test_inputs_have_the_names_of_the_model() -> None:
    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    x = torch.zeros(3, 2)
    assert list(named_inputs(Two(), (x, x))) == ["left", "right"]
    assert list(named_inputs(Two(), {"right": x})) == ["right"]
    assert list(named_inputs(Two(), x)) == ["input"]
    with pytest.raises(InputError, match=r"found 3 inputs, allowed: at most 2, .* left, right"):
        named_inputs(Two(), (x, x, x))
    with pytest.raises(InputError, match="allowed: one size"):
        named_inputs(Two(), (x, x[:2]))
    with pytest.raises(InputError, match="allowed: a tensor, a tuple"):
        named_inputs(Two(), {"left": [1.0]})
