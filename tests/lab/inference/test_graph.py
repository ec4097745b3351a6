"""Graphs as scorers: what ONNX Runtime says of them is handed on, and other files are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nervecode.errors import InputError, MissingExtraError
from nervecode.lab.data.images import RULE
from nervecode.lab.inference.graph import RANKS, GraphScorer
from nervecode.lab.inference.images import ImageInputs
from nervecode.lab.inference.open import open_inputs, open_scorer
from nervecode.lab.inference.scorer import other_names
from nervecode.lab.inference.source import Inputs

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ABOUT = {"calibration_inputs": 99, "smallest_alpha": 0.01, "layers": ["body", "head:label"]}
# Of (B, 2) inputs: the graph hands them on as logits and bits, and their first column as the rest.
COLUMN = ("surprise", "percentile", "p_value")


def write_graph(
    path: Path,
    about: Mapping[str, Any] = ABOUT,
    *,
    shape: tuple[Any, ...] = ("batch", 2),
    element: int = onnx.TensorProto.FLOAT,
    without: tuple[str, ...] = (),
    first: str = "input",
) -> Path:
    """A graph with the names of an exported one, but for those that it is to be `without`."""
    helper, float32, float64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    types = {name: float64 if name in ("percentile", "p_value") else float32 for name in RANKS}
    nodes = [
        helper.make_node("Cast", [first], ["values"], to=float32),
        helper.make_node("Gather", ["values", "zero"], ["column"], axis=1),
    ]
    for name, kind in types.items():
        source = "column" if name in COLUMN else "values"
        nodes.append(helper.make_node("Cast", [source], [name], to=kind))
    nodes.append(helper.make_node("Identity", ["hundredth"], ["smallest_alpha"]))
    sizes = {name: [None] if name in COLUMN else [None, 2] for name in RANKS}
    outputs = [
        helper.make_tensor_value_info(name, types[name], sizes[name])
        for name in RANKS
        if name not in without
    ]
    if "smallest_alpha" not in without:
        outputs.append(helper.make_tensor_value_info("smallest_alpha", float64, []))
    inputs = [helper.make_tensor_value_info(first, element, shape)]
    if "alpha" not in without:
        inputs.append(helper.make_tensor_value_info("alpha", float64, []))
    zero = helper.make_tensor("zero", onnx.TensorProto.INT64, [], [0])
    hundredth = helper.make_tensor("hundredth", float64, [], [0.01])
    kept = [node for node in nodes if node.output[0] not in without]
    graph = helper.make_graph(kept, "test", inputs, outputs, [zero, hundredth])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {f"nervecode.{k}": json.dumps(v) for k, v in about.items()})
    path.write_bytes(model.SerializeToString())
    return path


def test_what_the_graph_says_is_handed_on(tmp_path: Path) -> None:
    scorer = open_scorer(write_graph(tmp_path / "model.onnx"))
    assert (scorer.shape, scorer.num_samples, scorer.smallest_alpha) == ((2,), 99, 0.01)
    x = np.array([[0.1, 0.7], [0.6, 0.2]], dtype=np.float32)
    scored = scorer(Inputs(torch.from_numpy(x), ["a", "b"]))
    assert scored.ids.tolist() == ["a", "b"]
    assert scored.prediction.tolist() == [1, 0]
    assert scored.layers == ("body", "head:label")
    assert scored.flag is None
    np.testing.assert_array_equal(scored.by_layer, x)
    for column in (scored.surprise, scored.percentile, scored.p_value):
        np.testing.assert_array_equal(column, x[:, 0])


def test_graphs_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    a, b = (
        open_scorer(write_graph(tmp_path / name, ABOUT | {"seed": seed}))
        for name, seed in (("a.onnx", 0), ("b.onnx", 1))
    )
    assert a.identity != b.identity


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"about": {}}, "the property 'nervecode.calibration_inputs', which nervecode writes"),
        ({"about": ABOUT | {"layers": []}}, "the property 'nervecode.layers'"),
        ({"about": ABOUT | {"layers": ["body"]}}, "'nervecode.layers': found 1 names, allowed: 2"),
        ({"about": ABOUT | {"smallest_alpha": 2}}, "the property 'nervecode.smallest_alpha'"),
        (
            {"about": ABOUT | {"smallest_alpha": 1e-6}},
            "'nervecode.smallest_alpha': found 1e-06, allowed: 0.01, as its output",
        ),
        (
            {"about": ABOUT | {"calibration_inputs": 9999}},
            "'nervecode.calibration_inputs': found 9999, allowed: 99, as its output 'smallest",
        ),
        (
            {"about": ABOUT | {"calibration_inputs": 50, "by_class": True}},
            "'nervecode.calibration_inputs': found 50, allowed: 99 or more, as its output",
        ),
        ({"without": ("smallest_alpha",)}, "lacks the output 'smallest_alpha'"),
        ({"without": ("p_value",)}, "lacks the output 'p_value', so it is no graph of a whole"),
        ({"without": ("output",)}, "lacks the output 'output'"),
        ({"without": ("alpha",)}, "found the inputs 'input', allowed: one, and 'alpha'"),
        ({"shape": (7, 2)}, "takes 7 inputs at a time, allowed: any number"),
        ({"shape": ("batch", "width")}, "allowed: float32 of a fixed shape"),
        ({"element": onnx.TensorProto.INT64}, "found tensor(int64) of ['batch', 2], allowed"),
    ],
)
def test_a_foreign_graph_is_refused_in_a_sentence(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "model.onnx", **change)
    with pytest.raises(InputError) as caught:
        open_scorer(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_of_calibration_inputs_are_smaller_than_all(tmp_path: Path) -> None:
    about = ABOUT | {"calibration_inputs": 500, "by_class": True}
    assert open_scorer(write_graph(tmp_path / "model.onnx", about)).num_samples == 500


def test_a_property_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "model.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"nervecode.layers": "[body"})
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"'nervecode\.…'.* is missing or damaged"):
        open_scorer(path)


def test_files_that_are_no_graphs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.onnx: no such file; `nervecode export RUN"):
        open_scorer(tmp_path / "nowhere.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx: not a readable ONNX file"):
        open_scorer(tmp_path / "text.onnx")
    whole = write_graph(tmp_path / "model.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.onnx: not a readable ONNX file"):
        open_scorer(tmp_path / "half.onnx")
    with pytest.raises(InputError, match=r"model\.pt2: allowed: a run or an \.onnx file"):
        open_scorer(tmp_path / "model.pt2")


def test_another_seed_or_device_is_refused(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "model.onnx", ABOUT | {"seed": 3})
    assert GraphScorer(path, 3, "cpu").about.seed == 3
    with pytest.raises(InputError, match="--by-class: found a graph, allowed: a run"):
        GraphScorer(path).group_by_class()
    with pytest.raises(InputError, match="--seed: found 0, allowed: 3, whose model"):
        open_scorer(path, 0)
    with pytest.raises(InputError, match="--device: found 'cuda', allowed for a graph: cpu"):
        open_scorer(path, device="cuda")


def test_pictures_need_the_rule_that_made_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    pictures = ImageInputs(tmp_path / "a.png", (3, 8, 8), skip_bad=False, workers=1)
    np.save(tmp_path / "x.npy", np.zeros((1, 2), dtype=np.float32))
    arrays = open_inputs(str(tmp_path / "x.npy"), (2,))
    GraphScorer(write_graph(tmp_path / "same.onnx", ABOUT | {"pictures": RULE})).check(pictures)
    for rule in (None, "stretched"):
        scorer = GraphScorer(write_graph(tmp_path / "model.onnx", ABOUT | {"pictures": rule}))
        scorer.check(arrays)
        with pytest.raises(InputError, match=f"the rule that fits pictures: found {rule!r}, all"):
            scorer.check(pictures)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(tmp_path / "model.onnx")
    monkeypatch.setattr("nervecode.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"score .*model\.onnx needs onnxruntime.*\[export"):
        open_scorer(path)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ([0, 1, 2], ()),
        ([1, 2, 4], ("1", "2", "4")),
        (["a", "b"], ("a", "b")),
        (["0", "1"], ("0", "1")),
    ],
)
def test_classes_that_are_not_their_numbers_are_named(
    classes: list[int | str], names: tuple[str, ...]
) -> None:
    assert other_names(classes) == names
