"""What a calibration promises, `score --fdr`, `merge --fdr`, and `calibrate --add`."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, false_discovery_control

from nervecode.lab.config.stored import load_config
from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.checkpoint import load_calibration

RATE = 0.3


@pytest.fixture(scope="module")
def mixed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out ID inputs, and a third as many of noise."""
    config = load_config(finished / "config.yaml")
    images = build_splits(config.data).test.inputs.numpy()[:150]
    noise = np.random.default_rng(0).random((50, *images.shape[1:]), dtype=np.float32)
    path = tmp_path_factory.mktemp("mixed") / "x.npy"
    np.save(path, np.concatenate([images.astype(np.float32), noise]))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_fdr_selects_from_all_inputs(cli: Any, finished: Path, mixed: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    found = cli("score", finished, "--input", mixed, "--fdr", RATE, "--output", output)
    assert found.status == 0, found.err
    rows = rows_of(output)
    p = np.array([float(row["p_value"]) for row in rows])
    flags = np.array([row["flag"] == "True" for row in rows])
    np.testing.assert_array_equal(flags, false_discovery_control(p) <= RATE)
    assert flags[150:].mean() > 0.5
    assert f"{flags.sum()} flagged at a false-discovery rate of {RATE}" in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    shown = cli("score", finished, "--input", mixed, "--fdr", RATE)
    assert f"{flags.sum()} flagged at a false-discovery rate of {RATE}" in shown.err
    assert "yes" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npz"])
def test_merge_selects_from_all_shards(
    cli: Any, finished: Path, mixed: Path, tmp_path: Path, suffix: str
) -> None:
    whole, merged = tmp_path / f"whole.{suffix}", tmp_path / f"merged.{suffix}"
    assert not cli("score", finished, "--input", mixed, "--fdr", RATE, "--output", whole).status
    for part in ("1/2", "2/2"):
        output = tmp_path / "s.npz"
        assert not cli(
            "score", finished, "--input", mixed, "--shard", part, "--output", output
        ).status
    found = cli("merge", *sorted(tmp_path.glob("s.shard-*")), "--fdr", RATE, "--output", merged)
    assert found.status == 0, found.err
    assert f"flagged at a false-discovery rate of {RATE}" in found.err
    assert merged.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fdr", "0.1", "--alpha", "0.1"], "--alpha and --fdr: found both, allowed: one rule"),
        (["--fdr", "0.1", "--confidence", "0.9"], "--confidence and --fdr: found both"),
        (["--confidence", "1"], "--confidence: found 1.0, allowed: between 0 and 1"),
        (["--fdr", "1"], "--fdr: found 1.0, allowed: between 0 and 1"),
        (
            ["--fdr", "0.1", "--shard", "1/2", "--output", "x.npz"],
            "--fdr and --shard: found both, allowed: `nervecode merge --fdr`",
        ),
    ],
)
def test_rates_that_cannot_be_controlled(
    cli: Any, finished: Path, mixed: Path, options: list[str], text: str
) -> None:
    found = cli("score", finished, "--input", mixed, *options)
    assert found.status == 2
    assert text in found.err


def test_too_few_calibration_inputs_to_select_any_are_told(
    cli: Any, finished: Path, mixed: Path
) -> None:
    found = cli("score", finished, "--input", mixed, "--fdr", "0.001")
    n = load_calibration(RunDir(finished), 0).num_samples
    needed = int(np.ceil(200 / (0.001 * (n + 1))))
    assert f"no input is selected: with {n} calibration inputs, {needed} of 200" in found.err


def test_score_and_calibrate_tell_what_is_promised(cli: Any, run_copy: Path, mixed: Path) -> None:
    n = load_calibration(RunDir(run_copy), 0).num_samples
    k = int(0.05 * (n + 1))
    most = 100 * beta.ppf(0.95, k, n + 1 - k)
    text = f"of inputs like the {n} of calibration, p <= 0.05 flags at most 5 % on average"
    for command in (["calibrate", run_copy], ["score", run_copy, "--input", mixed]):
        found = cli(*command)
        assert found.status == 0, found.err
        err = " ".join(found.err.split())
        assert text in err
        assert f"by this very set at most {most:.2g} %, with 95 % confidence" in err


@pytest.fixture(scope="module")
def points(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out ID points of the blobs, and some far away."""
    x = build_splits(load_config(blobs / "config.yaml").data).test.inputs.numpy()
    path = tmp_path_factory.mktemp("points") / "x.npy"
    np.save(path, np.concatenate([x, x[:20] + 40]))
    return path


def by_class(blobs: Path, plain: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """p-values within the predicted class by a loop, and how many inputs are behind each."""
    calibration = load_calibration(RunDir(blobs), 0)
    known = calibration.scores.float().numpy()
    (label,) = (pair for name, pair in calibration.layers.items() if name.endswith(":label"))
    classes = label[:, 1].long().numpy()
    p, n = [], []
    for row in plain:
        own = known[classes == int(row["prediction"])]
        n.append(len(own))
        p.append((1 + (own >= np.float32(row["surprise"])).sum()) / (len(own) + 1))
    return np.array(p), np.array(n)


def test_p_values_within_the_predicted_class(
    cli: Any, blobs: Path, points: Path, tmp_path: Path
) -> None:
    base = ("score", blobs, "--input", points)
    assert not cli(*base, "--output", tmp_path / "plain.csv").status
    found = cli(*base, "--by-class", "--output", tmp_path / "own.csv")
    assert found.status == 0, found.err
    assert "flagged at alpha 0.05 within classes" in found.err
    assert "within each class by itself: of inputs like the" in " ".join(found.err.split())
    plain, own = rows_of(tmp_path / "plain.csv"), rows_of(tmp_path / "own.csv")
    assert "pooled" not in plain[0] and {row["pooled"] for row in own} == {"False"}
    expected, n = by_class(blobs, plain)
    assert len(set(n)) == 3 and n.min() >= 99
    p = np.array([float(row["p_value"]) for row in own])
    np.testing.assert_allclose(p, expected, atol=1 / n.min() + 1e-9)  # scores are float32 in files
    assert np.mean(np.abs(p - expected) < 1e-9) > 0.98
    assert [row["percentile"] for row in own] == [row["percentile"] for row in plain]
    assert [row["flag"] == "True" for row in own] == (p <= 0.05).tolist()
    sharded = cli(*base, "--by-class", "--shard", "1/1", "--output", tmp_path / "s.npz")
    assert sharded.status == 0, sharded.err
    shards = tmp_path.glob("s.shard-*")
    assert not cli("merge", *shards, "--output", tmp_path / "merged.csv").status
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()


def test_a_confidence_makes_the_threshold_smaller(
    cli: Any, blobs: Path, points: Path, tmp_path: Path
) -> None:
    for options in ([], ["--by-class"]):
        output = tmp_path / f"{len(options)}.csv"
        found = cli(
            "score", blobs, "--input", points, *options,
            "--alpha", 0.1, "--confidence", 0.9, "--output", output,
        )  # fmt: skip
        assert found.status == 0, found.err
        assert "flagged at alpha 0.1 with 90 % confidence" in found.err
        rows = rows_of(output)
        if options:
            _, n = by_class(blobs, rows)
        else:
            n = np.full(len(rows), load_calibration(RunDir(blobs), 0).num_samples)
        ranks = {
            size: max(k for k in range(1, size) if beta.ppf(0.9, k, size + 1 - k) <= 0.1)
            for size in set(n.tolist())
        }
        for row, size in zip(rows, n.tolist(), strict=True):
            threshold = ranks[size] / (size + 1) + 1e-9
            assert (row["flag"] == "True") == (float(row["p_value"]) <= threshold)
        text = " ".join(found.err.split())
        assert "%, with 90 % confidence" in text
        assert ("within each class by itself" in text) == bool(options)


def test_what_so_few_calibration_inputs_cannot_promise(
    cli: Any, finished: Path, mixed: Path, blobs: Path, points: Path
) -> None:
    n = load_calibration(RunDir(finished), 0).num_samples
    few = cli("score", finished, "--input", mixed, "--alpha", 0.01, "--confidence", 0.95)
    assert few.status == 2
    smallest = np.ceil(1e4 * (1 - 0.05 ** (1 / n))) / 1e4
    assert f"--alpha: found 0.01 at confidence 0.95, allowed: {smallest:g} or" in few.err
    assert "299 serve 0.01" in few.err
    pooled = cli("score", finished, "--input", mixed, "--by-class", "--fdr", RATE)
    assert pooled.status == 2
    assert "--fdr and --by-class: class " in pooled.err
    assert "allowed: --fdr without --by-class" in pooled.err
    own = cli("score", blobs, "--input", points, "--by-class", "--fdr", RATE)
    assert own.status == 0, own.err
    assert f" flagged at a false-discovery rate of {RATE} within classes" in own.err


def test_classes_that_are_pooled_are_told(
    cli: Any, finished: Path, mixed: Path, tmp_path: Path
) -> None:
    base = ("score", finished, "--input", mixed, "--output")
    found = cli(*base, tmp_path / "own.csv", "--by-class")
    assert found.status == 0, found.err
    assert "are compared with all calibration inputs" in " ".join(found.err.split())
    assert not cli(*base, tmp_path / "plain.csv").status
    own, plain = rows_of(tmp_path / "own.csv"), rows_of(tmp_path / "plain.csv")
    assert {row.pop("pooled") for row in own} == {"True"}
    assert own == plain


def test_codes_that_do_not_tell_the_class(cli: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    config = tiny | {"seeds": [0], "signals": {"nervecode": {"recipe": "v0_1_1"}}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    trained = cli("train", "--config", tmp_path / "c.yaml", "--outdir", tmp_path)
    run = Path(trained.out.splitlines()[-1]).parents[1]
    assert cli("calibrate", run).status == 0
    found = cli("score", run, "--input", "uniform_noise", "--by-class")
    assert found.status == 2 and "--by-class: the run's codes have no label code" in found.err


def test_add_makes_a_new_run_and_leaves_the_old_one(
    cli: Any, run_copy: Path, mixed: Path, tmp_path: Path, tree: Any
) -> None:
    source = tmp_path / "id.npy"
    np.save(source, np.load(mixed)[:150])
    before = tree(run_copy)
    found = cli("calibrate", run_copy, "--add", source)
    assert found.status == 0, found.err
    assert tree(run_copy) == before
    new = RunDir(found.out.strip().splitlines()[-1])
    assert new.root.parent == run_copy.parent
    assert "added, before (%)" in found.out and "those of before, now (%)" in found.out
    old = load_calibration(RunDir(run_copy), 1)
    grown = load_calibration(new, 1)
    assert grown.num_samples == old.num_samples + 150
    assert f"of inputs like the {grown.num_samples} of calibration" in " ".join(found.err.split())
    scored = cli("score", new.root, "--input", mixed, "--output", tmp_path / "s.jsonl")
    assert scored.status == 0, scored.err
    assert f"Next: nervecode watch {tmp_path / 's.jsonl'} --run {new.root}\n" in scored.err
    for command, lacks in (("plot", "id_calibration.npz"), ("report", "results.json")):
        refused = cli(command, new.root)
        assert refused.status == 4
        assert (
            f"{new.root}: has no {lacks}: inputs were added to its calibration, so that it serves "
            f"`nervecode score`; the benchmark is that of {run_copy.name}\n"
        ) in refused.err
    compared = cli("compare", new.root, run_copy)
    assert compared.status == 0, compared.err
    assert f"Next: nervecode report {run_copy}\n" in compared.err
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    ranks = np.array([line["p_value"] for line in lines]) * (grown.num_samples + 1)
    np.testing.assert_allclose(ranks, ranks.round(), atol=1e-6)
    verified = cli("verify", new.root)
    assert verified.status == 0
    assert "inputs were added to its calibration, so that it serves `nervecode" in verified.err
    assert "seem to be in the calibration already" not in " ".join(found.err.split())
    again = cli("calibrate", new.root, "--add", source)
    told = " ".join(again.err.split())
    assert "of the added inputs seem to be in the calibration already" in told
    assert "what follows holds only if the remarks on the added inputs do not apply" in told
    assert load_calibration(RunDir(again.out.strip().splitlines()[-1]), 0).num_samples == (
        old.num_samples + 300
    )
    meta = (new.root / "meta.json").read_bytes()
    bench = cli("bench", new.root)
    assert bench.status == 2
    assert (new.root / "meta.json").read_bytes() == meta
    assert f"serves `nervecode score`; the benchmark is that of {run_copy.name}" in bench.err


def test_exact_makes_a_new_run_of_half_the_ranks(
    cli: Any, run_copy: Path, mixed: Path, tmp_path: Path, tree: Any
) -> None:
    before, old = tree(run_copy), load_calibration(RunDir(run_copy), 1)
    found = cli("calibrate", run_copy, "--exact")
    assert found.status == 0, found.err
    assert tree(run_copy) == before
    new = RunDir(found.out.strip().splitlines()[-1])
    exact = load_calibration(new, 1)
    assert exact.exact and not old.exact
    assert exact.num_samples == old.num_samples - old.num_samples // 2
    assert f"of inputs like the {exact.num_samples} of calibration" in " ".join(found.err.split())
    scores, told = tmp_path / "s.jsonl", {}
    for run in (new.root, run_copy):
        for more in ([], ["--by-class"]):
            scored = cli("score", run, "--input", mixed, "--output", scores, "--force", *more)
            assert scored.status == 0, scored.err
            watched = cli("watch", scores, "--run", run, "--run-length", "1000")
            assert watched.status == 0, watched.err
            told[run] = " ".join(watched.err.split())
    assert "is measured, not proved" not in told[new.root]
    assert (
        f"is measured, not proved; `nervecode calibrate {run_copy} --exact` makes"
        in (told[run_copy])
    )
    grown = cli("calibrate", new.root, "--add", mixed)
    assert grown.status == 0, grown.err
    bigger = load_calibration(RunDir(grown.out.strip().splitlines()[-1]), 1)
    assert bigger.exact and bigger.num_samples == exact.num_samples + 200
    for options, text in (
        ((new.root, "--exact"), "its calibration is exact already"),
        ((run_copy, "--exact", "--add", mixed), "--add and --exact: found both, allowed: one"),
    ):
        refused = cli("calibrate", *options)
        assert refused.status == 2 and text in " ".join(refused.err.split())
    bench = cli("bench", new.root)
    assert bench.status == 2
    told = "its calibration was made exact, so that it serves `nervecode score`; the benchmark is "
    assert f"{told}that of {run_copy.name}" in " ".join(bench.err.split())


def test_what_is_suggested_keeps_the_options_and_is_quoted(
    cli: Any, finished: Path, mixed: Path, tmp_path: Path
) -> None:
    options = ("--alpha", "0.2", "--seed", "1", "--by-class", "--skip-bad")
    found = cli("score", finished, "--input", mixed, *options)
    assert found.status == 0, found.err
    shown = f"Next: nervecode score {finished} --input {mixed} {' '.join(options)} --output"
    assert shown in found.err
    folder = tmp_path / "my scores"
    folder.mkdir()
    target = folder / "s [1].npz"
    found = cli("score", finished, "--input", mixed, "--output", target, "--shard", "1/2")
    assert found.status == 0, found.err
    before, after = shlex.quote(f"{folder / 's [1].shard-'}"), shlex.quote(str(target))
    assert f"nervecode merge {before}*-of-2.npz --output {after}" in found.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bench {run} --outdir elsewhere", "--outdir: found with RUN, allowed: with --preset or"),
        ("train {run} --dry-run --outdir elsewhere", "--outdir: found with RUN, allowed: with"),
        ("plot {run} --kind training --ood uniform_noise", "--ood: found with --kind training"),
        ("plot {run} --kind calibration --ood uniform_noise", "--ood: found with --kind calibr"),
        (
            "plot {run} --kind stream --scored s.csv --ood uniform_noise",
            "--ood: found with --scored",
        ),
        ("calibrate {run} --exact --skip-bad", "--skip-bad: found without --add"),
        ("sweep digits --launcher print --launcher-option a=3", "unknown 'a' of launcher print"),
    ],
)
def test_options_that_would_be_dropped_are_refused(
    cli: Any, finished: Path, command: str, words: str
) -> None:
    found = cli(*command.format(run=finished).split())
    assert found.status == 2 and words in " ".join(found.err.split())


def test_bad_additions_make_no_run(cli: Any, run_copy: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((3, 9, 9), dtype=np.uint8))
    np.save(tmp_path / "nan.npy", np.full((3, 1, 8, 8), np.nan, dtype=np.float32))
    for source, text in (
        (tmp_path / "wide.npy", "allowed: (N, 1, 8, 8)"),
        (tmp_path / "none.npy", "no such file"),
        (tmp_path / "nan.npy", "allowed: finite float32 values; --skip-bad leaves it out"),
        ("nix", "Error: --add nix: neither a path nor a data set"),
        ("", "Error: --add: found '', allowed: a path or the name of a data set"),
        (" ", "Error: --add: found ' ', allowed: a path or the name of a data set"),
        ("array:", "Error: --add: found '', allowed: a path or the name of a data set"),
    ):
        found = cli("calibrate", run_copy, "--add", source)
        assert found.status == 2
        assert text in " ".join(found.err.split())
    assert list(run_copy.parent.iterdir()) == [run_copy]


def test_bad_inputs_are_left_out_of_an_addition_by_name(
    cli: Any, run_copy: Path, tmp_path: Path, mixed: Path
) -> None:
    """Told once, though the run has two seeds; the new run lies beside the run, not its link."""
    values = np.load(mixed)[:150].astype(np.float32) / 255
    values[[3, 7], 0, 0, 0] = np.nan
    np.save(tmp_path / "some.npy", values)
    np.save(tmp_path / "none.npy", np.full((3, 1, 8, 8), np.nan, dtype=np.float32))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere/latest"
    link.symlink_to(run_copy)
    found = cli("calibrate", link, "--add", tmp_path / "some.npy", "--skip-bad")
    assert found.status == 0, found.err
    for row in (3, 7):
        assert found.err.count(f"skipped: {tmp_path / 'some.npy'}: row {row}, ") == 1
    new = RunDir(found.out.strip().splitlines()[-1])
    assert new.root.parent == run_copy.parent
    assert f"is that of {run_copy.name}" in cli("plot", new.root).err
    old = load_calibration(RunDir(run_copy), 0)
    assert load_calibration(new, 0).num_samples == old.num_samples + 148
    runs = sorted(run_copy.parent.iterdir())
    refused = cli("calibrate", link, "--add", tmp_path / "none.npy", "--skip-bad")
    assert refused.status == 2 and "none of the inputs is readable" in refused.err
    alone = cli("calibrate", run_copy, "--skip-bad")
    assert alone.status == 2 and "--skip-bad: found without --add" in alone.err
    assert sorted(run_copy.parent.iterdir()) == runs


def test_what_the_codes_were_fitted_to_is_noticed_and_promises_are_doubted(
    cli: Any, run_copy: Path, tmp_path: Path
) -> None:
    data = load_config(run_copy / "config.yaml").data
    np.save(tmp_path / "train.npy", build_splits(data).train.inputs.numpy()[:100])
    told = " ".join(cli("calibrate", run_copy, "--add", tmp_path / "train.npy").err.split())
    assert "100% of the inputs were fitted to" in told
    assert "what follows holds only if the remarks on the added inputs do not apply" in told


def test_additions_that_are_ood_are_noticed(cli: Any, run_copy: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32)
    np.save(tmp_path / "noise.npy", noise)
    found = cli("calibrate", run_copy, "--add", tmp_path / "noise.npy")
    assert found.status == 0, found.err
    assert "as about 3 should: are they ID?" in " ".join(found.err.split())


def test_inputs_that_the_flag_let_pass_are_noticed(
    cli: Any, run_copy: Path, tmp_path: Path
) -> None:
    config = load_config(run_copy / "config.yaml")
    images = build_splits(config.data).test.inputs.numpy()
    np.save(tmp_path / "all.npy", images)
    scores = tmp_path / "s.csv"
    assert not cli("score", run_copy, "--input", tmp_path / "all.npy", "--output", scores).status
    kept = [float(row["p_value"]) > 0.06 for row in rows_of(scores)]
    np.save(tmp_path / "kept.npy", images[kept])
    found = cli("calibrate", run_copy, "--add", tmp_path / "kept.npy")
    assert "were flagged inputs left out?" in " ".join(found.err.split())
