"""`nervecode score`: folders, arrays and names, into CSV, JSON lines and npz."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nervecode.lab.config.stored import load_config
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.splits import build_splits

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
    assert f"Next: nervecode score {finished} --input digits --output scores.csv" in found.err


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
