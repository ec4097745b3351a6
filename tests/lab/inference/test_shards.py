"""Shards of scores: together they are the scores of one go, and nothing else passes for them."""

from __future__ import annotations

import json
import random
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import nervecode
from nervecode.errors import ArtifactError, InputError
from nervecode.lab.inference import arrays as array_inputs
from nervecode.lab.inference import images
from nervecode.lab.inference import output as files
from nervecode.lab.inference import shards as shards_module
from nervecode.lab.inference.flags import FlagRule
from nervecode.lab.inference.open import open_inputs
from nervecode.lab.inference.output import MEMBERS, OUTPUT_SUFFIXES, write_scored
from nervecode.lab.inference.primary import WrappedScorer
from nervecode.lab.inference.scored import Scored, Summary, some
from nervecode.lab.inference.scorer import score_source
from nervecode.lab.inference.shards import Shard, check_shards, read_chunks, read_shard
from nervecode.lab.inference.source import Inputs, Source, ahead
from nervecode.lab.machine.progress import Progress
from nervecode.layers import WrappedModel

ALPHA = 0.1
BATCH = 16
GREY = (1, 8, 8)


@pytest.fixture(autouse=True, scope="module")
def small_batches() -> Iterator[None]:
    """So that few inputs make many units."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (array_inputs, images):
            patch.setattr(module, "EVAL_BATCH", BATCH)
        yield


@pytest.fixture(scope="module")
def wrapped() -> WrappedModel:
    torch.manual_seed(0)
    x, y = torch.rand(300, *GREY), torch.arange(300) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    found = nervecode.wrap(model, layers="all_linear").fit([(x[:200], y[:200])])
    return found.calibrate([(x[200:], y[200:])])


def array(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, *GREY)).astype(np.float32)


def score(wrapped: WrappedModel, source: Source, shard: Shard) -> Iterator[Scored]:
    scorer = WrappedScorer(wrapped, GREY, {})
    rows = score_source(scorer, source, shard.range, progress=Progress())
    return FlagRule(ALPHA).flagged(rows, scorer)


def score_shards(wrapped: WrappedModel, source: Source, count: int, folder: Path) -> list[Path]:
    paths = []
    for index in range(1, count + 1):
        shard = Shard(index, count, source.units, {"input": source.identity, "seed": 0})
        paths.append(shard.path(folder / "part.npz"))
        write_scored(score(wrapped, source, shard), paths[-1], extra=shard.header())
    return paths


def merge(paths: list[Path], output: Path) -> None:
    write_scored((c for path in check_shards(paths) for c in read_chunks(path)), output)


def whole(wrapped: WrappedModel, source: Source, output: Path) -> None:
    write_scored(score(wrapped, source, Shard(1, 1, source.units)), output)


# Equality


@pytest.mark.slow
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(count=st.integers(1, 150), shards=st.integers(1, 12), shuffle=st.randoms())
@example(count=1, shards=12, shuffle=random.Random(0))
@example(count=10 * BATCH, shards=10, shuffle=random.Random(0))
def test_merged_shards_are_the_scores_of_one_go_bit_for_bit(
    wrapped: WrappedModel, count: int, shards: int, shuffle: random.Random
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", array(count))
        source = open_inputs(str(folder / "x.npy"), GREY)
        paths = score_shards(wrapped, source, shards, folder)
        shuffle.shuffle(paths)
        for suffix in OUTPUT_SUFFIXES:
            whole(wrapped, source, folder / f"whole{suffix}")
            merge(paths, folder / f"merged{suffix}")
            found, expected = (folder / f"{n}{suffix}" for n in ("merged", "whole"))
            assert found.read_bytes() == expected.read_bytes()
        with np.load(folder / "whole.npz", allow_pickle=False) as found:
            assert found["sample_ids"].tolist() == [str(i) for i in range(count)]


def test_batches_do_not_show_in_the_scores(wrapped: WrappedModel, tmp_path: Path) -> None:
    """One forward over all is the oracle; sums run in another order there."""
    x = array(100)
    np.save(tmp_path / "x.npy", x)
    whole(wrapped, open_inputs(str(tmp_path / "x.npy"), GREY), tmp_path / "out.npz")
    all_ids = [str(i) for i in range(100)]
    expected = WrappedScorer(wrapped, GREY, {})(Inputs(torch.from_numpy(x), all_ids))
    expected = replace(expected, flag=expected.p_value <= ALPHA)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        for field, column in expected.columns().items():
            if field == "ids":
                assert found["sample_ids"].tolist() == all_ids
            else:
                name, dtype = MEMBERS[field]
                assert column.dtype == dtype
                np.testing.assert_allclose(found[name], column, rtol=1e-4, atol=1e-3)


def test_an_npz_file_is_what_numpy_would_have_written(tmp_path: Path) -> None:
    """The same members, types and shapes; and the same file whenever it is written."""
    rows = made_up(1000)
    parts = [made_up(1000, slice(start, start + 7)) for start in range(0, 1000, 7)]
    write_scored([rows], tmp_path / "a.npz")
    write_scored(parts, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    arrays = {MEMBERS[name][0]: column for name, column in rows.columns().items()}
    np.savez_compressed(tmp_path / "numpy.npz", **arrays, layer_names=np.array(rows.layers))
    with np.load(tmp_path / "a.npz") as found, np.load(tmp_path / "numpy.npz") as expected:
        assert set(found.files) == set(expected.files)
        for name in expected.files:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])


def test_names_that_are_no_utf8_are_kept_or_escaped(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    rows = replace(made_up(1), ids=np.array([name]))
    for suffix in OUTPUT_SUFFIXES:
        write_scored([rows], tmp_path / f"x{suffix}")
    assert "\ncaf\\udce9.png," in (tmp_path / "x.csv").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "x.jsonl").read_text())["id"] == name
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found["sample_ids"].tolist() == [name]


def test_a_folder_with_a_bad_image_in_shards(wrapped: WrappedModel, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate((array(60)[:, 0] * 255).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    for bad in (17, 48, 49):
        (folder / f"{bad}.png").write_bytes(b"no image")
    source = open_inputs(str(folder), GREY, skip_bad=True, workers=3)
    whole(wrapped, source, tmp_path / "whole.csv")
    merge(score_shards(wrapped, source, 3, tmp_path), tmp_path / "merged.csv")
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    names = [line.split(",")[0] for line in (tmp_path / "whole.csv").read_text().splitlines()]
    assert names == ["id", *(f"{i:02}.png" for i in range(60) if i not in (17, 48, 49))]
    with pytest.raises(InputError, match=r"17\.png: not a readable image"):
        whole(wrapped, open_inputs(str(folder), GREY), tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


# Memory


def made_up(count: int, part: slice = slice(None)) -> Scored:
    generator = np.random.default_rng(0)
    columns = {
        "ids": np.array([str(i) for i in range(count)]),
        "surprise": generator.random(count).astype(np.float32),
        "percentile": generator.random(count),
        "p_value": generator.random(count),
        "flag": generator.random(count) < 0.5,
        "prediction": generator.integers(0, 10, count),
        "by_layer": generator.random((count, 3)).astype(np.float32),
    }
    layers = ("a", "b", "c")
    return Scored(**{name: column[part] for name, column in columns.items()}, layers=layers)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_writing_takes_the_same_memory_for_any_number_of_rows(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 1 << 12)  # which 60 chunks fill
    chunk, peaks = made_up(64), []
    for chunks in (60, 60, 960):  # the first warms up what is loaded once; peaks vary by 100 kB
        tracemalloc.start()
        write_scored(repeat(chunk, chunks), tmp_path / f"x{suffix}", force=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 0.05 * 900 * sum(c.nbytes for c in chunk.columns().values())


def test_a_shard_of_an_array_larger_than_the_memory(wrapped: WrappedModel, tmp_path: Path) -> None:
    path, count = tmp_path / "x.npy", 4_000_000_000  # 256 GB of zeros, none of them on the disk
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *GREY)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 64)
    source = open_inputs(str(path), GREY)
    shard = Shard(7, 100_000_000, source.units)
    tracemalloc.start()
    (found,) = [chunk.ids.tolist() for chunk in score(wrapped, source, shard)][:1]
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    assert found == [str(BATCH * shard.range.start + i) for i in range(BATCH)]


def test_the_next_batch_is_read_while_this_one_is_used() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1, 5):
            made.append(i)
            yield i

    seen = ahead(items())
    assert next(seen) == 1
    assert list(seen) == [2, 3, 4]
    assert made == [1, 2, 3, 4]

    def failing() -> Iterator[int]:
        yield 1
        raise InputError("as it was read")

    with pytest.raises(InputError, match="as it was read"):
        list(ahead(failing()))


def test_a_summary_keeps_the_most_surprising() -> None:
    rows, summary = made_up(500), Summary()
    parts = [made_up(500, slice(start, start + 7)) for start in range(0, 500, 7)]
    assert sum(len(part) for part in summary.watching(parts)) == 500
    assert (summary.count, summary.flagged) == (500, int(rows.flag.sum()))
    order = np.argsort(-rows.surprise, kind="stable")[:10]
    assert summary.top is not None
    assert summary.top.ids.tolist() == rows.ids[order].tolist()
    np.testing.assert_array_equal(summary.top.by_layer, rows.by_layer[order])


def test_no_row_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x: none of the inputs is readable"):
        write_scored(some([], "x"), tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


# Which shard


@given(units=st.integers(0, 10**6), count=st.integers(1, 1000))
def test_shards_cover_every_unit_once_in_order(units: int, count: int) -> None:
    ranges = [Shard(i, count, units).range for i in range(1, count + 1)]
    assert ranges[0].start == 0
    assert ranges[-1].stop == units
    assert all(a.stop == b.start for a, b in pairwise(ranges))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("11/10", "found shard 11 of 10, allowed: 1/10 to 10/10"),
        ("0/10", "found shard 0 of 10, allowed: 1/10 to 10/10"),
        ("1/0", "found shard 1 of 0"),
        ("3", "found '3', allowed: i/n as in 3/10, counted from 1"),
        ("-1/4", "found '-1/4'"),
        ("a/b", "found 'a/b'"),
        ("", "found ''"),
    ],
)
def test_a_shard_out_of_range_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Shard.parse(text)
    assert words in str(caught.value)


def test_names_of_shards_sort_in_their_order() -> None:
    output = Path("out/scores.npz")
    names = [Shard.parse(f"{i}/10").path(output) for i in range(1, 11)]
    assert names[2] == Path("out/scores.shard-03-of-10.npz")
    assert names == sorted(names)
    assert all(name.match(str(Shard.parse("1/10").paths(output))) for name in names)
    with pytest.raises(InputError, match=r"found '\.csv', allowed for a shard: '\.npz'"):
        Shard.parse("1/10").path(Path("scores.csv"))


# What is no whole


@pytest.fixture
def shards(wrapped: WrappedModel, tmp_path: Path) -> list[Path]:
    """Five shards of six batches."""
    np.save(tmp_path / "x.npy", array(6 * BATCH))
    return score_shards(wrapped, open_inputs(str(tmp_path / "x.npy"), GREY), 5, tmp_path)


def test_shards_in_any_order_are_put_in_order(shards: list[Path]) -> None:
    assert check_shards(shards[::-1]) == shards


def test_missing_shards_are_named(shards: list[Path]) -> None:
    with pytest.raises(InputError, match="shards missing of 5: 2, 5; given: 3"):
        check_shards([shards[0], shards[3], shards[2]])


def test_a_shard_given_twice_is_named(shards: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    copy.write_bytes(shards[1].read_bytes())
    with pytest.raises(InputError, match=f"shard 2 of 5 is given twice: {shards[1]} and {copy}"):
        check_shards([*shards, copy])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 6}, "number of shards: found 6, allowed: 5 as in"),
        ({"units": 7}, "units of input: found 7, allowed: 6 as in"),
        ({"settings": {"seed": 1}}, "seed: found 1, allowed: 0 as in"),
        ({"settings": {"input": {"count": 9}}}, 'input: found {"count": 9}, allowed: {"count": 96'),
        ({"settings": {"alpha": 0.5}}, "alpha: found 0.5, allowed: null as in"),
    ],
)
def test_shards_of_different_scorings_are_not_mixed(
    shards: list[Path], change: dict[str, object], words: str
) -> None:
    shard = read_shard(shards[4])
    settings = shard.settings | change.pop("settings", {})  # type: ignore[operator]
    other = replace(shard, settings=settings, **change)  # type: ignore[arg-type]
    rows = list(read_chunks(shards[4]))
    write_scored(rows, shards[4], extra=other.header(), force=True)
    with pytest.raises(InputError) as caught:
        check_shards(shards)
    assert str(caught.value).startswith(f"{shards[4]}: ")
    assert words in str(caught.value)


def test_shards_with_percentiles_up_to_100_are_read_as_fractions(shards: list[Path]) -> None:
    expected = [row for path in shards for chunk in read_chunks(path) for row in chunk.rows()]
    assert max(row["percentile"] for row in expected) > 0.9
    rows = list(read_chunks(shards[1]))
    older = {"shard": np.array(str(read_shard(shards[1]).header()["shard"]).replace("d-2", "d-1"))}
    in_per_cent = [replace(chunk, percentile=100 * chunk.percentile) for chunk in rows]
    write_scored(in_per_cent, shards[1], extra=older, force=True)
    with pytest.warns(UserWarning, match=rf"{shards[1]}: of an earlier version") as caught:
        paths = check_shards(shards)
    assert len(caught) == 1
    found = [row for path in paths for chunk in read_chunks(path) for row in chunk.rows()]
    for row, other in zip(found, expected, strict=True):
        assert row.pop("percentile") == pytest.approx(other.pop("percentile"), abs=1e-15)
        assert row == other


def test_what_is_no_shard_is_refused(shards: list[Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "array.npz", inputs=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name, words in (
        ("array.npz", "it is no shard"),
        ("text.npz", "is damaged or no shard"),
        ("none.npz", "is missing"),
    ):
        with pytest.raises(ArtifactError, match=words) as caught:
            check_shards([*shards, tmp_path / name])
        assert name in str(caught.value)


def test_a_shard_that_would_fill_the_memory_is_refused(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(shards[0]) as file:
        arrays = dict(file)
    names = arrays["sample_ids"].astype(f"<U{shards_module.MAX_ROW // 4 + 1}")
    np.savez_compressed(tmp_path / "wide.npz", **arrays | {"sample_ids": names})
    with pytest.raises(ArtifactError, match=r"found rows of 1,048,580 bytes, allowed: 1,048,576"):
        next(read_chunks(tmp_path / "wide.npz"))
    monkeypatch.setattr(shards_module, "MAX_SMALL", 100)
    with pytest.raises(ArtifactError, match=r"shard takes [\d,]+ bytes, allowed: 100"):
        read_shard(shards[0])


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_is_told_and_never_merged(shards: list[Path], data: st.DataObject) -> None:
    """Whatever byte changes: an error of ours, or the rows that were written."""
    expected = [row for chunk in read_chunks(shards[0]) for row in chunk.rows()]
    whole = shards[0].read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.booleans())
    path = shards[0].with_name("damaged.npz")
    path.write_bytes(whole[:at] if cut else damaged)
    try:
        shard = read_shard(path)
        rows = [row for chunk in read_chunks(path) for row in chunk.rows()]
    except ArtifactError as error:
        assert str(path) in str(error)
    else:
        assert not cut
        assert (shard, rows) == (read_shard(shards[0]), expected)


def test_a_shard_is_done_when_it_is_this_one_and_whole(shards: list[Path]) -> None:
    shard = read_shard(shards[0])
    assert shard.is_done(shards[0])
    assert not shard.is_done(shards[0].with_name("none.npz"))
    assert not shard.is_done(shards[1])
    assert not replace(shard, settings={**shard.settings, "seed": 1}).is_done(shards[0])
    with zipfile.ZipFile(shards[0]) as archive:
        score = archive.getinfo("score.npy")
    data = bytearray(shards[0].read_bytes())
    data[score.header_offset + score.compress_size // 2] ^= 1
    shards[0].write_bytes(data)
    assert not shard.is_done(shards[0])


def test_scoring_that_stops_leaves_nothing_behind(wrapped: WrappedModel, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.concatenate([array(40), np.full((1, *GREY), np.nan, "f4")]))
    source = open_inputs(str(tmp_path / "x.npy"), GREY)
    for suffix in OUTPUT_SUFFIXES:
        with pytest.raises(InputError, match="found nan, allowed: finite"):
            whole(wrapped, source, tmp_path / f"out{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
