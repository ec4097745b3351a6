"""Plots: every kind draws from saved files alone, the same run gives the same bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn import metrics

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.results.statistics import auroc
from nervecode.lab.watch.job import Heard, WatchJob
from nervecode.monitor import Monitor
from nervecode.viz import KINDS, curves, layerwise, picture
from nervecode.viz.layerwise import main
from nervecode.viz.panels import label_panels, panels
from nervecode.viz.saved import Saved
from nervecode.viz.stream import Stream, _caption
from nervecode.viz.style import deviations, name_layers

from .conftest import finish_run, write_run

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_draws_a_picture_that_is_not_empty(finished: Path, kind: str) -> None:
    path = KINDS[kind](finished)
    assert path == finished / "plots" / f"{kind}_seed_0.png"
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(pixels.shape) > 400
    assert (pixels < 128).mean() > 0.005  # ink
    assert pixels[:3].min() > 200  # nothing is cut at the upper edge


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*((kind, ".png") for kind in KINDS), ("heat", ".svg"), ("heat", ".pdf"), ("roc", ".svg")],
)
def test_the_same_run_gives_the_same_bytes(
    finished: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    paths = [KINDS[kind](finished, output=tmp_path / f"{i}{suffix}") for i in range(2)]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(HEADS[suffix])


@pytest.mark.slow
def test_the_users_own_style_changes_nothing(finished: Path, tmp_path: Path) -> None:
    plain = KINDS["scores"](finished, output=tmp_path / "plain.png").read_bytes()
    with rc_context({"axes.facecolor": "black", "font.size": 20, "figure.dpi": 30}):
        assert KINDS["scores"](finished, output=tmp_path / "own.png").read_bytes() == plain


LOOKS = {"ID test": ("black", "s"), "far": ("blue", "o")}


@pytest.mark.parametrize("top", [1.5, 30.0, 900.0])
def test_an_axis_of_deviations_has_plain_numbers_and_holds_all(top: float) -> None:
    figure = Figure()
    drawn = list(figure.subplots(1, 2))
    drawn[0].plot([-1, top])
    drawn[1].plot([0, 1])
    deviations(drawn)
    low, high = drawn[0].get_ylim()
    assert low < -1 and top < high and drawn[1].get_ylim() == (low, high)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    shown = [float(t.get_text().replace("−", "-").replace(",", ""))
             for t in drawn[0].get_yticklabels()
             if low <= t.get_position()[1] <= high]  # fmt: skip
    assert 0 in shown and 1 in shown and 3 <= len(shown) <= 8


@pytest.mark.slow
def test_other_data_give_another_picture(run: Path, tmp_path: Path) -> None:
    paths = [KINDS["scores"](run, seed=s, output=tmp_path / f"{s}.png") for s in (0, 1)]
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_auroc_of_a_layer_is_scikit_learns_and_separable_layers_reach_100(tmp_path: Path) -> None:
    inside, outside = np.zeros((50, 2)), np.zeros((40, 2))
    inside[:, 0], outside[:, 0] = np.arange(50), 100 + np.arange(40)  # separable
    inside[:, 1], outside[:, 1] = np.arange(50) % 10, np.arange(40) % 10  # alike
    axes = Figure().subplots()
    layerwise._draw_auroc(axes, ["a", "b"], {"ID test": inside, "far": outside}, LOOKS)
    assert axes.lines[0].get_ydata() == pytest.approx([100.0, 50.0])


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(-3.0, 9.0), (0.0, 4e4), (-900.0, 70.0), (5.0, 6.0)])
def test_bars_are_equally_wide_on_their_axis_and_hold_all(low: float, high: float) -> None:
    edges = curves.equal_bins(low, high, 7.0)
    axes = Figure().subplots()
    axes.set_xscale("symlog", linthresh=7.0, linscale=curves.LINEAR_DECADES)
    axes.set_xlim(low, high)
    places = axes.transData.transform(np.stack([edges, np.zeros_like(edges)], axis=1))[:, 0]
    assert np.diff(places) == pytest.approx(np.full(curves.BINS, np.diff(places).mean()))
    assert np.histogram([low, high], edges)[0].sum() == 2


def test_a_set_has_one_colour_in_every_picture(run: Path, tmp_path: Path) -> None:
    whole = Saved(run)
    looks = [whole.look(name) for name in whole.ood]
    assert len(set(looks)) == len(looks)
    for name in whole.ood:
        assert Saved(run, ood=[name], seed=1).look(name) == whole.look(name)
    assert whole.look("ID test") not in looks


@pytest.mark.parametrize("decimals", [1, 6])  # with ties, and without
def test_the_roc_curve_is_scikit_learns(decimals: int) -> None:
    random = np.random.default_rng(3)
    inside, outside = random.normal(0, 1, 70).round(decimals), random.normal(1, 2, 50)
    truth = np.r_[np.zeros(70), np.ones(50)]
    expected = metrics.roc_curve(
        truth, np.r_[inside, outside.round(decimals)], drop_intermediate=False
    )
    found = curves.roc_curve(inside, outside.round(decimals))
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1])


def test_auroc_is_scikit_learns() -> None:
    random = np.random.default_rng(4)
    inside, outside = random.normal(0, 1, 70).round(1), random.normal(1, 2, 50).round(1)
    truth = np.r_[np.zeros(70), np.ones(50)]
    expected = metrics.roc_auc_score(truth, np.r_[inside, outside])
    assert auroc(inside, outside) == pytest.approx(expected)


def test_medians_are_numpys(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(31, 3))
    axes = Figure().subplots()
    layerwise._draw_medians(axes, ["a", "b", "c"], {"ID test": values, "far": values + 1}, LOOKS)
    drawn = [container[0].get_ydata() for container in axes.containers]
    assert drawn[0] == pytest.approx(np.median(values, axis=0))
    assert drawn[1] == pytest.approx(np.median(values, axis=0) + 1)


def test_a_violin_is_wide_where_values_are_dense_and_ends_at_the_percentiles() -> None:
    values = np.r_[np.random.default_rng(5).normal(3, 0.1, 900), np.linspace(0, 200, 100)]
    heights, widths = layerwise.violin(values)
    low, high = np.percentile(values, [1, 99])
    assert low < heights.min() and heights.max() < high
    assert heights[widths.argmax()] == pytest.approx(3, abs=0.3)
    assert widths.max() == 1 and widths.min() >= 0
    assert np.isfinite(layerwise.violin(np.full(20, 0.5))).all()  # a layer that is constant


@pytest.mark.slow
@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (5, (2, 3)), (9, (3, 3)), (10, (3, 4))])
def test_rows_of_panels_are_of_about_the_same_length_and_labelled_outside(
    count: int, shape: tuple[int, int]
) -> None:
    figure, grid = panels([str(i) for i in range(count)])
    label_panels(grid, x="x", y="y")
    assert len(grid) == count and len(figure.axes) == shape[0] * shape[1]
    assert [bool(a.get_ylabel()) for a in grid] == [i % shape[1] == 0 for i in range(count)]
    below = [i + shape[1] < count for i in range(count)]
    assert [bool(a.get_xlabel()) for a in grid] == [not covered for covered in below]


def test_layers_stand_aslant_only_where_their_names_need_it() -> None:
    axes = Figure().subplots()
    for width, rotation in ((3.0, 0), (1.0, 60)):
        name_layers(axes, ["blocks.0", "blocks.1", "head"], width=width)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}


def test_bins_of_the_heat_map_keep_the_mean_and_short_sets_stay_whole() -> None:
    ordered = np.sort(np.random.default_rng(2).normal(size=(1000, 2)), axis=0)
    binned = layerwise._binned(ordered, 50)
    assert binned.shape == (50, 2)
    assert binned.mean(0) == pytest.approx(ordered.mean(0))
    assert layerwise._binned(ordered[:20], 50) is not None
    assert np.array_equal(layerwise._binned(ordered[:20], 50), ordered[:20])


@pytest.fixture(scope="module", params=[(3, 1), (7, 5), (20, 10)], ids=str)
def sized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of so many layers and OOD sets, whose names are long: to be read."""
    layers, sets = request.param
    groups = {f"a_set_name_{i}": ("near", "far")[i % 2] for i in range(sets)}
    groups = dict(sorted(groups.items(), key=lambda item: item[1]))
    return finish_run(write_run(tmp_path_factory.mktemp("sized"), layers=layers, groups=groups))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_no_text_of_a_plot_is_cut_or_overlaps(
    sized: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(picture, "save", lambda figure, path: kept.append(figure) or path)
    KINDS[kind](sized)
    FigureCanvasAgg(kept[0])
    boxes = _text_boxes(kept[0])
    width, height = kept[0].canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1, f"{text!r} is cut"
        assert box.x1 <= width + 1 and box.y1 <= height + 1, f"{text!r} is cut"
    for i, (text, box) in enumerate(boxes):
        for other_text, other in boxes[i + 1 :]:
            slack = box.padded(-1.5)
            assert not slack.overlaps(other.padded(-1.5)), f"{text!r} lies on {other_text!r}"
    assert all(gap > 0 for gap in _gaps(kept[0]))


def _gaps(figure: Figure) -> Iterator[float]:
    """Pixels between neighbours of the labels that stand aslant along a lower axis."""
    for axes in figure.axes:
        labels = [t for t in axes.get_xticklabels() if t.get_rotation() % 90 and t.get_text()]
        places = [t.get_transform().transform(t.get_position())[0] for t in labels]
        for label, (one, other) in zip(labels, pairwise(places), strict=False):
            angle = np.deg2rad(label.get_rotation())
            label.set_rotation(0)
            yield (other - one) * np.sin(angle) - label.get_window_extent().height
            label.set_rotation(np.rad2deg(angle))


def test_the_check_of_slanting_labels_can_fail() -> None:
    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xticks(range(40), [f"layer {i}" for i in range(40)], rotation=60)
    figure.draw_without_rendering()
    assert min(_gaps(figure)) < 0


def test_the_overlap_check_can_fail() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "two")
    (_, one), (_, two) = _text_boxes(figure)
    assert one.overlaps(two)


def _text_boxes(figure: Figure):
    """Horizontal texts that are visible, with their boxes; turned ones are left to the eye."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    unseen = _out_of_view(figure)
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    texts = [t for t in texts if t.get_rotation() % 90 == 0 and id(t) not in unseen]
    return [(t.get_text(), t.get_window_extent()) for t in texts]


def _out_of_view(figure: Figure) -> set[int]:
    """Texts that exist, but are not drawn: ticks beyond the limits, and axes that are hidden."""
    from matplotlib.text import Text

    found = set()
    for axes in figure.axes:
        if not axes.get_visible():
            found |= {id(text) for text in axes.findobj(Text)}
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.majorTicks + axis.minorTicks:
                if not low <= tick.get_loc() <= high:
                    found |= {id(tick.label1), id(tick.label2)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"demo": True}, "DEMO"),
        ({"transfer": True}, "TRANSFER"),
        ({"gate": {"passed": False, "accuracy": {}}}, "FAILED GATE"),
        ({"demo": True, "gate": {"passed": False, "accuracy": {}}}, "DEMO · FAILED GATE"),
    ],
)
def test_demo_and_failed_gate_are_stamped_across(
    run: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    plain = KINDS["scores"](run, output=tmp_path / "plain.svg").read_text()
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps(meta | change))
    stamped = KINDS["scores"](run, output=tmp_path / "stamped.svg").read_text()
    assert f">{words}<" in stamped
    assert f">{words}<" not in plain


@pytest.mark.slow
def test_plotting_loads_no_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nervecode.viz import KINDS, picture\n"
        f"run = Path({str(finished)!r})\n"
        "KINDS['roc'](run)\n"
        "picture.save = lambda figure, path: path  # the pixels of one are those of all\n"
        "for kind in KINDS: KINDS[kind](run)\n"
        "slow = {'torch', 'sklearn'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_unknown_names_are_refused_with_the_nearest(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no 'photo'; did you mean 'photos'\?"):
        KINDS["layerwise"](run, ood=["photo"])
    with pytest.raises(InputError, match="seed: found 7, allowed: 0, 1"):
        KINDS["roc"](run, seed=7)
    with pytest.raises(InputError, match=r"unknown suffix '\.gif'; Allowed: \.pdf, \.png, \.svg"):
        KINDS["roc"](run, output=tmp_path / "a.gif")
    with pytest.raises(InputError, match="no such folder"):
        KINDS["roc"](run, output=tmp_path / "nowhere" / "a.png")
    assert not (run / "plots").exists()


def test_a_picture_of_some_sets_is_not_that_of_the_page(run: Path) -> None:
    whole = KINDS["roc"](run)
    before = whole.read_bytes()
    first, *others = Saved(run).ood
    part = KINDS["roc"](run, ood=[first])
    assert part == run / "plots" / f"roc_{first}_seed_0.png"
    assert whole.read_bytes() == before != part.read_bytes()
    assert KINDS["roc"](run, ood=[*others, first]) == whole  # all of them, in whatever order
    assert KINDS["roc"](run, ood=[first, first]) == part
    saved = Saved(run)
    saved.groups = dict.fromkeys("abcdef", "far")
    names = set()
    for chosen in ("ab", "ba", "abcd", "abce", "abcde", "edcba"):
        saved.ood = list(chosen)
        names.add(saved.output("roc", None, force=False).name)
    assert len(names) == 4


def test_an_output_that_exists_needs_force(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    output.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; --force replaces it"):
        KINDS["roc"](run, output=output)
    assert output.read_bytes() == b"mine"
    KINDS["roc"](run, output=output, force=True)
    assert output.read_bytes().startswith(HEADS[".png"])


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("layerwise", "layerwise/seed_0/ood_photos.npz"),
        ("roc", "scores/seed_0/id_test.npz"),
        ("scores", "scores/seed_0/id_calibration.npz"),
        ("training", "metrics/seed_1.csv"),
        ("calibration", "scores/seed_0/id_test.npz"),
        ("codebooks", "diagnostics/seed_0.csv"),
        ("heat", "layerwise/seed_0/id_calibration.npz"),
        ("trace", "layerwise/seed_0/id_test.npz"),
        ("stream", "calibration/seed_0.safetensors"),
        ("matrix", "results.json"),
    ],
)
def test_missing_and_damaged_files_are_named(finished: Path, kind: str, file: str) -> None:
    run, path = finished, finished / file
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtifactError, match=f"{path.name}: is damaged"):
        KINDS[kind](run)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{path.name}: is missing; `nervecode bench"):
        KINDS[kind](run)


def test_the_module_runs_as_a_command(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.svg"
    arguments = [str(run), "--seed", "1", "--ood", "photos,held_out", "--output", str(output)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing")]) == 2


def drawn_stream(run: Path, rows: list[str], **options: object) -> str:
    """The words of the picture of a file with these rows."""
    scored, output = run.parent / "scored.csv", run.parent / "a.svg"
    scored.write_text("\n".join(rows) + "\n")
    KINDS["stream"](run, scored=scored, output=output, force=True, **options)
    return " ".join(" ".join(re.findall(r">([^<>]+)<", output.read_text())).split())


def test_a_stream_is_drawn_from_a_scored_file(run: Path) -> None:
    rows = [f"{i},{p / 81},{p < 5}" for i, p in enumerate([40, 80, *[1] * 60])]
    words = drawn_stream(run, ["id,p_value,flag", *rows])
    assert "scored.csv; 62 inputs, 80 calibration inputs" in words
    assert "There is an alarm at input" in words and "Layers named" not in words
    assert "with probability 0.01 at most" in words and "flagged (%)" in words


def test_the_picture_of_a_stream_is_that_of_the_watch(run: Path) -> None:
    rows = ["p_value", *[f"{p / 81}" for p in [40, 80, *[1] * 60]]]
    plain = drawn_stream(run, rows)
    assert "flagged (%)" not in plain  # as `watch` counts none where the file has no flags
    late = drawn_stream(run, rows, run_length=1e6)
    assert "is passed by chance after 1,000,000 inputs, on average, at the earliest" in late
    at = [int(words.split("alarm at input ")[1].split(":")[0]) for words in (plain, late)]
    assert at[0] < at[1]
    job = WatchJob(str(run.parent / "scored.csv"), run=run, run_length=1e6)
    alarm = job.work(Heard(lambda _: None, lambda _: None, lambda _: None)).monitor.alarm
    assert alarm is not None and alarm.input == at[1]


def test_unreadable_records_are_left_out_of_a_picture_where_that_is_asked_for(run: Path) -> None:
    rows = ["p_value", *[f"{p / 81}" for p in [40, 80, *[1] * 60]]]
    rows[2:2] = ["x", "0.5,1"]
    with pytest.raises(InputError, match="line 3: p_value: found 'x'"):
        drawn_stream(run, rows)
    words = drawn_stream(run, rows, skip_bad=True)
    assert "scored.csv, 2 skipped; 62 inputs, 80 calibration inputs" in words
    with pytest.raises(InputError, match="--skip-bad: found without --scored"):
        KINDS["stream"](run, output=run.parent / "b.svg", skip_bad=True)


def test_names_of_layers_keep_their_letters(run: Path) -> None:
    stream = Stream("A.csv")
    watcher = SimpleNamespace(monitor=Monitor(80, layers=["Conv_A"]), flagged=0)
    for _ in range(40):
        watcher.monitor.update(1 / 81, layers=[1 / 81])
        stream.note(watcher)  # type: ignore[arg-type]
    assert "layers: Conv_A)" in _caption(Saved(run), stream)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,p_value\n", "scored.csv: holds no record"),
        ("id,score\n1,2\n", "scored.csv, line 2: no 'p_value'"),
        ("id,p_value\n1,x\n", "scored.csv, line 2: p_value: found 'x', allowed: a number"),
        ("id,p_value\n1,0.02\n", "scored.csv, line 2: p_value: found 0.02, which 80 .* never give"),
        ("id,p_value\n1,nan\n", "scored.csv, line 2: p_value: found nan"),
        ("id,p_value\n1,1\n", "scored.csv: found 1 input, allowed: 2 and more, for a picture"),
    ],
)
def test_a_stream_that_cannot_be_drawn(run: Path, tmp_path: Path, text: str, message: str) -> None:
    scored = tmp_path / "scored.csv"
    scored.write_text(text)
    with pytest.raises(InputError, match=message):
        KINDS["stream"](run, scored=scored, output=tmp_path / "a.png")
