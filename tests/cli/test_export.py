"""`nervecode export`, and `nervecode score` of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nervecode.files import read_json, sha256, write_json
from nervecode.lab.data.images import RULE
from nervecode.lab.data.samples import as_float
from nervecode.lab.data.splits import build_splits
from nervecode.lab.inference.primary import load_primary
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import sealed
from nervecode.layers.export import METADATA

from .test_score import COLUMNS, LAYERS, read_csv

SEED = 1


@pytest.fixture(scope="module")
def graph(cli: Any, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second seed's model in ONNX."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path: Path = tmp_path_factory.mktemp("graphs") / "model.onnx"
    found = cli("export", finished, "--output", path, "--seed", SEED)
    assert found.status == 0, found.err
    assert found.out.strip() == str(path)
    assert "seed 1, 8 classes, 5 layers; 289 calibration inputs: the smallest alpha" in found.err
    assert f"Next: nervecode score {path} --input FILE" in found.err
    return path


@pytest.mark.slow
def test_a_graph_scores_as_its_run_does(
    cli: Any, finished: Path, graph: Path, tmp_path: Path
) -> None:
    rows = []
    for model, name in ((finished, "run.csv"), (graph, "graph.csv")):
        output = tmp_path / name
        found = cli("score", model, "--seed", SEED, "--input", "textures", "--output", output)
        assert found.status == 0, found.err
        rows.append(read_csv(output))
    expected, answered = rows
    assert list(answered[0]) == [*COLUMNS, *[f"bits:{name}" for name in LAYERS]]
    for key in ("id", "prediction"):
        assert [row[key] for row in answered] == [row[key] for row in expected]

    def column(key: str, table: list[dict[str, str]]) -> np.ndarray:
        return np.array([float(row[key]) for row in table])

    for key in ("surprise", *[f"bits:{name}" for name in LAYERS]):
        np.testing.assert_allclose(
            column(key, answered), column(key, expected), rtol=1e-3, atol=1e-3
        )
    gap = np.abs(column("p_value", answered) - column("p_value", expected))
    assert gap.max() < 1.5 / 290 and (gap == 0).mean() > 0.95  # but at ties
    assert [row["flag"] == "True" for row in answered] == list(column("p_value", answered) <= 0.05)


@pytest.mark.slow
def test_shards_and_selections_of_a_graph(cli: Any, graph: Path, tmp_path: Path) -> None:
    given = ("score", graph, "--input", "uniform_noise", "--output")
    assert cli(*given, tmp_path / "whole.csv").status == 0
    for part in ("1/2", "2/2"):
        assert cli(*given, tmp_path / "scores.npz", "--shard", part).status == 0
    shards = sorted(tmp_path.glob("scores.shard-*"))
    assert cli("merge", *shards, "--output", tmp_path / "merged.csv").status == 0
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert "exists; --force replaces it" in cli(*given, tmp_path / "whole.csv").err
    found = cli(*given, tmp_path / "whole.csv", "--force", "--fdr", "0.1")
    assert "flagged at a false-discovery rate of 0.1" in found.err


@pytest.mark.slow
def test_what_a_graph_cannot_score_is_refused(cli: Any, graph: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 9, 9), dtype=np.float32))
    found = cli("score", graph, "--input", tmp_path / "x.npy")
    assert found.status == 2
    assert "found shape (2, 3, 9, 9), allowed: (N, 1, 8, 8)" in found.err
    found = cli("score", graph, "--input", "digits", "--alpha", "0.001")
    assert found.status == 2
    assert "--alpha: found 0.001, allowed: 0.00345 or more; the 289 calibration inputs" in found.err
    found = cli("score", graph, "--input", "digits", "--seed", "0")
    assert f"--seed: found 0, allowed: 1, whose model {graph} holds" in found.err


@pytest.mark.slow
def test_an_onnx_file_says_of_which_run_it_is(finished: Path, graph: Path) -> None:
    onnx = pytest.importorskip("onnx")
    properties = {p.key: json.loads(p.value) for p in onnx.load(graph).metadata_props}
    run, seed = RunDir(finished), SEED
    assert properties["nervecode.run"] == run.meta["run_id"]
    assert properties["nervecode.seed"] == seed
    assert properties["nervecode.checkpoint"] == sha256(run.paths.checkpoint(seed))
    assert properties["nervecode.calibration"] == sha256(run.paths.calibration(seed))
    assert properties["nervecode.config"] == sha256(finished / "config.yaml")
    assert properties["nervecode.classes"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert properties["nervecode.inputs"] == {"input": [None, 1, 8, 8]}
    assert properties["nervecode.pictures"] == RULE
    assert properties["nervecode.layers"] == LAYERS
    assert properties["nervecode.gate_passed"] is True


@pytest.mark.slow
def test_a_traced_graph_takes_raw_inputs_and_is_told_of_its_run(
    cli: Any, run_copy: Path, tmp_path: Path, tree: Any
) -> None:
    meta = read_json(run_copy / "meta.json")
    gate = meta["gate"] | {"passed": False}
    write_json(run_copy / "meta.json", sealed({**meta, "gate": gate, "sha256": None}))
    before, command = tree(run_copy), ("export", run_copy, "--output", tmp_path / "model.pt2")
    (tmp_path / "model.pt2").write_text("mine")
    found = cli(*command)
    assert found.status == 2
    assert "model.pt2: exists; --force replaces it" in found.err
    assert (tmp_path / "model.pt2").read_text() == "mine"
    found = cli(*command, "--force")
    assert found.status == 0, found.err
    assert tree(run_copy) == before
    assert "the run did not pass its accuracy gate" in found.err
    scored = cli("score", run_copy, "--input", "uniform_noise")
    assert "the run did not pass its accuracy gate, and its figures are withheld" in scored.err
    assert "Next: torch.export.load, as in docs/deployment.md" in found.err
    extra = {METADATA: ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    about = json.loads(extra[METADATA])
    assert (about["seed"], about["gate_passed"], about["demo"]) == (0, False, False)
    wrapped, _ = load_primary(RunDir(run_copy), None, device="cpu")
    x = as_float(build_splits(RunDir(run_copy).config.data).test.inputs[:20])
    with torch.no_grad():
        answer = program.module()(input=x, alpha=torch.tensor(0.05, dtype=torch.float64))
        logits, surprise = wrapped.score(x)
    torch.testing.assert_close(answer["output"], logits)
    torch.testing.assert_close(answer["by_layer"], surprise.by_layer, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_run_with_learned_codes_is_exported(
    cli: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervecode.lab.inference.primary.PRIMARY", "nervecode_v0_1_1")
    found = cli("export", finished, "--output", tmp_path / "model.pt2")
    assert found.status == 0, found.err
    wrapped, _ = load_primary(RunDir(finished), None, device="cpu")
    x = as_float(build_splits(RunDir(finished).config.data).test.inputs[:20])
    program = torch.export.load(tmp_path / "model.pt2")
    with torch.no_grad():
        answer = program.module()(input=x, alpha=torch.tensor(0.05, dtype=torch.float64))
        surprise = wrapped.score(x)[1]
    torch.testing.assert_close(answer["surprise"].float(), surprise.surprise.float())
    torch.testing.assert_close(answer["p_value"], surprise.p_value, rtol=0, atol=1 / 290)


def test_an_export_without_its_extra_says_what_to_install(
    cli: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nervecode.errors.find_spec", lambda name: None)
    found = cli("export", finished, "--output", tmp_path / "model.onnx")
    assert found.status == 2
    assert (
        "export to ONNX needs onnxscript, which is not installed; pip install -e '.[export]'"
        in (found.err)
    )
    assert not list(tmp_path.iterdir())
