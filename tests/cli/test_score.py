"""`nervecode score`: folders, arrays and names, into CSV, JSON lines and npz."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nervecode.lab.config.stored import load_config
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.splits import build_splits
from nervecode.lab.inference.primary import load_primary
from nervecode.scoring.layer_calibration import LayerCalibration

LAYERS = [*[f"blocks.{i}" for i in range(4)], "head:label"]
COLUMNS = ["id", "surprise", "percentile", "p_value", "flag", "prediction"]


@pytest.fixture(scope="module")
def test_images(finished: Path) -> np.ndarray:
    config = load_config(finished / "config.yaml")
    found: np.ndarray = build_splits(config.data, limit_eval=50).test.inputs.numpy()
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_read_is_not_replaced(
    cli: Any, finished: Path, test_images: np.ndarray, tmp_path: Path
) -> None:
    source, link = tmp_path / "x.npz", tmp_path / "same.npz"
    np.savez(source, inputs=test_images)
    link.symlink_to(source)
    before = source.read_bytes()
    for given, output in ((source, source), (source, link), (f"array:{source}", source)):
        found = cli("score", finished, "--input", given, "--output", output, "--force")
        assert found.status == 2
        assert f"--output {output}: is what is read, which it would replace" in found.err
    for part in ("1/2", "2/2"):
        cli("score", finished, "--input", source, "--output", tmp_path / "s.npz", "--shard", part)
    shards = sorted(tmp_path.glob("s.shard-*"))
    assert len(shards) == 2
    kept = shards[0].read_bytes()
    found = cli("merge", *shards, "--output", shards[0], "--force")
    assert (found.status, "is what is read" in found.err) == (2, True)
    assert (source.read_bytes(), shards[0].read_bytes()) == (before, kept)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_the_test_split_score_as_the_bench_scored_them(
    cli: Any, finished: Path, test_images: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    source, output = tmp_path / f"in.{suffix}", tmp_path / "out.csv"
    np.save(source, test_images) if suffix == "npy" else np.savez(source, inputs=test_images)
    found = cli("score", finished, "--input", source, "--output", output)
    assert found.status == 0, found.err
    assert found.out.strip() == str(output)
    rows = read_csv(output)
    assert list(rows[0]) == [*COLUMNS, *[f"bits:{name}" for name in LAYERS]]
    scores = np.load(finished / "scores/seed_0/id_test.npz")["nervecode"]
    np.testing.assert_allclose([float(r["surprise"]) for r in rows], scores, rtol=1e-3, atol=1e-3)
    layers = np.load(finished / "layerwise/seed_0/id_test.npz")
    bits = [[float(row[f"bits:{name}"]) for name in LAYERS] for row in rows]
    np.testing.assert_allclose(bits, layers["surprise"], rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal([int(r["prediction"]) for r in rows], layers["predictions"])
    calibration = np.load(finished / "scores/seed_0/id_calibration.npz")["nervecode"]
    p = (1 + (calibration[None] >= scores[:, None]).sum(1)) / (len(calibration) + 1)
    np.testing.assert_allclose([float(r["p_value"]) for r in rows], p, atol=1.5 / len(calibration))
    flags = [row["flag"] == "True" for row in rows]
    assert flags == [float(row["p_value"]) <= 0.05 for row in rows]
    assert f"50 inputs from {source}: {sum(flags)} flagged at alpha 0.05" in found.err


def test_each_kind_of_output_says_the_same(cli: Any, finished: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "npz"):
        output = tmp_path / f"out.{suffix}"
        found = cli("score", finished, "--input", "uniform_noise", "--output", output)
        assert found.status == 0, found.err
    rows = read_csv(tmp_path / "out.csv")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{k: str(v) for k, v in line.items()} for line in lines] == rows
    arrays = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert arrays["layer_names"].tolist() == LAYERS
    assert arrays["surprise"].shape == (500, len(LAYERS))
    assert arrays["sample_ids"].tolist() == [line["id"] for line in lines]
    for key in ("percentile", "p_value", "flag"):
        np.testing.assert_array_equal(arrays[key], [line[key] for line in lines])
    np.testing.assert_array_equal(arrays["predictions"], [line["prediction"] for line in lines])
    assert arrays["flag"].mean() > 0.5


def test_a_named_data_set_is_shown_the_most_surprising_first(cli: Any, finished: Path) -> None:
    found = cli("score", finished, "--input", "digits", "--alpha", "0.2", "--seed", "1")
    assert found.status == 0, found.err
    assert f"{len(DATASETS['digits']().train)} inputs from digits" in found.err
    assert "flagged at alpha 0.2" in found.err
    assert "10 of 1797 inputs" in found.out
    assert all(name in found.out for name in LAYERS)
    same = "--alpha 0.2 --seed 1"
    assert f"Next: nervecode score {finished} --input digits {same} --output scores" in found.err


def test_a_folder_of_images_is_scored_by_their_names(
    cli: Any, finished: Path, test_images: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    pixels = np.round(test_images[:3, 0] * 255).astype(np.uint8)
    for name, image in zip(("a.png", "b.png", "sub/c.png"), pixels, strict=True):
        Image.fromarray(image).save(folder / name)
    np.save(tmp_path / "same.npy", pixels)
    for source, output in ((folder, "folder.jsonl"), (tmp_path / "same.npy", "array.jsonl")):
        found = cli("score", finished, "--input", source, "--output", tmp_path / output)
        assert found.status == 0, found.err
    one, other = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("folder.jsonl", "array.jsonl")
    )
    assert [line.pop("id") for line in one] == ["a.png", "b.png", "sub/c.png"]
    assert [line.pop("id") for line in other] == ["0", "1", "2"]
    assert one == other


def test_a_bad_image_is_skipped_by_name_where_asked_for(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "pictures", tmp_path / "out.csv"
    folder.mkdir()
    Image.new("L", (8, 8), 128).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no image")
    found = cli("score", finished, "--input", folder, "--skip-bad", "--output", output)
    assert found.status == 0, found.err
    assert f"skipped: {folder / 'bad.png'}" in found.err
    assert [row["id"] for row in read_csv(output)] == ["good.png"]


def test_scoring_leaves_the_run_as_it_was(cli: Any, finished: Path, tree: Any) -> None:
    before = tree(finished)
    assert cli("score", finished, "--input", "gaussian_noise").status == 0
    assert tree(finished) == before


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose models are calibrated on 16 inputs, which give no p-value of 0.05."""

    def load(*arguments: Any, **options: Any) -> Any:
        wrapped, made_for = load_primary(*arguments, **options)
        layers = {name: pair[:16] for name, pair in wrapped.calibration.layers.items()}
        wrapped.calibration = LayerCalibration(layers, wrapped.calibration.method)
        return wrapped, made_for

    monkeypatch.setattr("nervecode.lab.inference.primary.load_primary", load)


@pytest.mark.usefixtures("few")
def test_an_alpha_that_no_p_value_reaches_is_refused_where_it_was_asked_for(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    command = ("score", finished, "--input", "uniform_noise", "--output", output, "--alpha")
    found = cli(*command, "0.05")
    assert found.status == 2
    assert found.err.startswith(
        "Error: --alpha: found 0.05, allowed: 0.0589 or more; the 16 calibration inputs give "
        "no p-value below 1/17 = 0.059\n"
    )
    assert not output.exists()
    assert cli(*command, "0.06").status == 0
    assert {row["flag"] for row in read_csv(output)} == {"True"}


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_flags_are_empty_where_the_usual_alpha_is_too_small(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    for suffix in ("csv", "jsonl", "npz"):
        output = tmp_path / f"out.{suffix}"
        found = cli("score", finished, "--input", "uniform_noise", "--output", output)
        assert found.status == 0, found.err
        assert found.err.count("no input is flagged at alpha 0.05: the 16 ca") == 1
    rows = read_csv(tmp_path / "out.csv")
    assert {row["flag"] for row in rows} == {""}
    assert min(float(row["p_value"]) for row in rows) == 1 / 17
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {line["flag"] for line in lines} == {None}
    assert "flag" not in np.load(tmp_path / "out.npz")

    shards = tmp_path / "shards.npz"
    for part in (1, 2):
        command = ("score", finished, "--input", "uniform_noise", "--output", shards)
        assert cli(*command, "--shard", f"{part}/2").status == 0
    merged = tmp_path / "merged.csv"
    found = cli("merge", *tmp_path.glob("shards.shard-*"), "--output", merged)
    assert found.status == 0, found.err
    assert merged.read_bytes() == (tmp_path / "out.csv").read_bytes()
    assert "yes" not in cli("score", finished, "--input", "uniform_noise").out


def test_an_input_that_overflows_is_flagged_and_spoils_no_other(
    cli: Any, tiny: dict[str, Any], tmp_path: Path
) -> None:
    sets = {"id": "wine", "hold_out": [1], "near": ["held_out"], "far": ["uniform_noise"]}
    config = tiny | {"seeds": [0], "data": sets, "model": {"name": "mlp", "width": 8}}
    (tmp_path / "wine.json").write_text(json.dumps(config))
    trained = cli("train", "--config", tmp_path / "wine.json", "--outdir", tmp_path)
    assert trained.status == 0, trained.err
    (run,) = tmp_path.glob("tiny-*")
    assert cli("calibrate", run).status == 0
    wines = DATASETS["wine"]().train.inputs[:5].numpy()
    odd = wines.copy()
    odd[2] = 1e38
    for name, array in (("plain", wines), ("odd", odd)):
        np.save(tmp_path / f"{name}.npy", array)
        for suffix in ("csv", "jsonl"):
            output = tmp_path / f"{name}.{suffix}"
            found = cli("score", run, "--input", tmp_path / f"{name}.npy", "--output", output)
            assert found.status == 0, found.err
    assert found.err.count("most surprising: 2 (NaN or infinity in a layer)") == 1
    plain, spoiled = read_csv(tmp_path / "plain.csv"), read_csv(tmp_path / "odd.csv")
    assert spoiled[2]["flag"] == "True" and spoiled[2]["surprise"] == "inf"
    assert [row["p_value"] for row in spoiled[:2]] == [row["p_value"] for row in plain[:2]]
    lines = [json.loads(line) for line in (tmp_path / "odd.jsonl").read_text().splitlines()]
    assert lines[2]["surprise"] is None and lines[1]["surprise"] is not None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_scoring_that_is_interrupted_names_its_own_command(
    number: int,
    status: int,
    cli: Any,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "nervecode.lab.inference.primary.WrappedScorer.__call__",
        lambda *_, **__: os.kill(os.getpid(), number),
    )
    output = tmp_path / "a b.csv"
    found = cli("score", finished, "--input", "digits", "--output", output)
    assert found.status == status
    command = f"nervecode score {finished} --input digits --output '{output}'"
    assert f"Error: interrupted; `{command}` does again what was not finished\n" in found.err
    assert not list(tmp_path.iterdir())
