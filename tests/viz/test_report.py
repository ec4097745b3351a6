"""The report: its figures are those of results.json, and it needs nothing but itself."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, ttest_rel

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.config.presets import preset_values
from nervecode.lab.results.rows import METRICS
from nervecode.viz.report import render_report, write_report
from nervecode.viz.specimens import draw_trace, thumbnail

from .conftest import finish_run, rehash, write_run

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "img", "br", "circle", "polygon", "polyline"}


class Page(HTMLParser):
    """Tables by id, the text, and the elements of a page; refuses what is not well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.table = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = dict(attrs).get("id") or f"plain-{len(self.tables)}"
            self.tables[self.table] = []
        elif tag == "tr":
            self.tables[self.table].append([])
        elif tag in ("td", "th"):
            self.tables[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[self.table][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())  # type: ignore[no-any-return]


def test_the_table_of_groups_is_the_summary_of_results_json(finished: Path) -> None:
    header, *body = Page(render_report(finished)).tables["groups"]
    summary = {(s["method"], s["group"]): s for s in results(finished)["summary"]}
    assert {row[0] for row in body} == {method for method, _ in summary}
    assert header[1] == "near+far"
    for row in body:
        both = 50 * sum(summary[row[0], group]["auroc_mean"] for group in ("near", "far"))
        assert row[1].partition("±")[0] == f"{both:.2f}"
        for group, cell in zip(header[2:], row[2:], strict=True):
            one = summary[row[0], group]
            assert cell == f"{100 * one['auroc_mean']:.2f}±{100 * one['auroc_std']:.2f}"


def test_the_table_of_sets_and_every_metric_are_means_of_the_rows(finished: Path) -> None:
    tables = Page(render_report(finished)).tables
    rows = [row for row in results(finished)["rows"] if row["status"] == "ok"]
    sets = list(dict.fromkeys(row["ood"] for row in rows))

    def over_seeds(method: str, ood: str, metric: str) -> np.ndarray:
        chosen = [r[metric] for r in rows if (r["method"], r["ood"]) == (method, ood)]
        return 100 * np.array(chosen)

    header, *body = tables["sets"]
    assert header == ["method", *sets]
    for method, *cells in body:
        means = [f"{over_seeds(method, ood, 'auroc').mean():.2f}" for ood in sets]
        assert cells == means
    for number, ood in enumerate(sets, start=1):
        _, *body = tables[f"set-{number}"]
        assert {row[0] for row in body} == {row["method"] for row in rows}
        for method, *cells in body:
            for metric, cell in zip(METRICS, cells, strict=True):
                values = over_seeds(method, ood, metric)
                assert cell == f"{values.mean():.2f}±{values.std(ddof=1):.2f}"


def test_the_claim_is_the_headline_with_its_paired_difference(finished: Path) -> None:
    text = Page(render_report(finished)).text
    rows = results(finished)["rows"]
    seeds: dict[str, list[float]] = {}
    for method in ("nervecode", "energy", "knn"):
        for seed in (0, 1):
            groups = [
                np.mean([r["auroc"] for r in rows
                         if (r["method"], r["seed"], r["group"]) == (method, seed, group)])
                for group in ("near", "far")
            ]  # fmt: skip
            seeds.setdefault(method, []).append(100 * float(np.mean(groups)))
    best = max(("energy", "knn"), key=lambda m: np.mean(seeds[m]))
    for method in ("nervecode", best):
        assert f"{np.mean(seeds[method]):.2f} ± {np.std(seeds[method], ddof=1):.2f}" in text
    test = ttest_rel(seeds["nervecode"], seeds[best])
    low, high = test.confidence_interval(0.95)
    difference = np.mean(seeds["nervecode"]) - np.mean(seeds[best])
    shown = [f"{value:+.2f}".replace("-", "−") for value in (difference, low, high)]
    assert f"{shown[0]} difference, 95 % interval {shown[1]} to {shown[2]}" in text


def test_one_seed_has_no_deviation_and_no_interval(run: Path) -> None:
    found = json.loads((run / "meta.json").read_text()) | {"seeds": [0]}
    (run / "meta.json").write_text(json.dumps(found))
    finish_run(run)
    one = results(run)
    rows = [row for row in one["rows"] if row["seed"] == 0]
    (run / "results.json").write_text(json.dumps(one | {"rows": rows}))
    rehash(run)
    page = Page(render_report(run))
    assert "difference of one seed; an interval needs two" in page.text
    assert "Student" not in page.text
    assert not any("±" in cell for row in page.tables["groups"] for cell in row)
    assert not any("±" in cell for row in page.tables["set-1"] for cell in row)


def test_the_other_figures_are_those_of_the_files(finished: Path) -> None:
    page, found = Page(render_report(finished)), results(finished)
    meta = json.loads((finished / "meta.json").read_text())
    pairs = {tuple(row) for table in page.tables.values() for row in table if len(row) == 2}
    for seed, accuracy in meta["gate"]["accuracy"].items():
        assert (f"seed {seed}", f"{100 * accuracy:.2f} %") in pairs
    for split, size in meta["split_sizes"].items():
        assert (split, f"{size:,}") in pairs
    both: dict[str, float] = {}
    for one in found["summary"]:
        if one["group"] in ("near", "far"):
            both[one["method"]] = both.get(one["method"], 0) + one["auroc_mean"] / 2
    place = sorted(both.values(), reverse=True).index(both["nervecode"]) + 1
    assert f"Place {place} of {len(both)} methods" in page.text
    scores = {s: np.load(finished / f"scores/seed_0/{s}.npz")["nervecode"]
              for s in ("id_calibration", "id_test")}  # fmt: skip
    above = (scores["id_calibration"][None] >= scores["id_test"][:, None]).sum(1)
    rate = 100 * np.mean((1 + above) / (len(scores["id_calibration"]) + 1) <= 0.05)
    assert f"raised false alarms on {rate:.1f} % of ID test" in page.text
    n = len(scores["id_calibration"])
    k = int(0.05 * (n + 1))
    most = 100 * (beta.ppf(0.95, k, n + 1 - k) if k else 0.0)
    assert f"at most {most:.1f} % with 95 % confidence by this one of {n:,} inputs" in page.text
    assert "near (held_out), far (photos) and shift (rotate_90)." in page.text


def test_published_figures_stand_beside_those_of_the_same_sets(finished: Path) -> None:
    assert "published" not in Page(render_report(finished)).tables
    data = preset_values("openood_cifar10")["data"]
    config: dict[str, Any] = {"name": "x", "data": data, "model": {"name": "mlp"}, "signals": {}}
    config["signals"]["nervecode"] = {"recipe": "bits"}
    config["bench"] = {"detectors": ["entropy", "knn", "pnml"]}

    def published() -> list[list[str]] | None:
        (finished / "config.yaml").write_text(json.dumps(config))
        rehash(finished)
        return Page(render_report(finished)).tables.get("published")

    found = published()
    assert found is not None
    header, own, *others = found
    assert header == ["method", "training", "near", "far", "near here", "far here"]
    with (ROOT / "configs/openood_cifar10.csv").open(newline="") as file:
        published_rows = list(csv.DictReader(file))
    theirs, unpublished = others[: len(published_rows)], others[len(published_rows) :]
    assert [row[:4] for row in theirs] == [list(row.values())[:4] for row in published_rows]
    here = dict(zip([row["here"] or row["method"] for row in published_rows], theirs, strict=True))
    summary = {
        (s["method"], s["group"]): f"{100 * s['auroc_mean']:.2f}"
        for s in results(finished)["summary"]
    }
    assert own[:4] == ["nervecode", "plain", "", ""]
    for method, cells in (("nervecode", own[4:]), ("knn", here["knn"][4:])):
        assert cells == [summary[method, "near"], summary[method, "far"]]
    assert here["CombOOD"][4:] == ["", ""]  # none of ours
    # What nobody has published has a row too, and here a figure only where it did not fail.
    assert unpublished == [["entropy", "plain", "", "", "", ""], ["pnml", "plain", "", "", "", ""]]

    config["signals"]["nervecode"] = {"recipe": "v0_1_1", "detach": False}
    joint = published()
    assert joint is not None and joint[1][:2] == ["nervecode", "for the task"]
    config["data"] = data | {"far": ["svhn"]}
    assert published() is None


def test_the_page_needs_nothing_but_itself(finished: Path) -> None:
    text = render_report(finished)
    page = Page(text)
    addresses = [a[key] or "" for _, a in page.elements for key in ("src", "href") if key in a]
    assert addresses
    assert all(re.match(r"data:|#", address) for address in addresses)
    assert "url(" not in text and "@import" not in text
    policy = next(a for _, a in page.elements if "http-equiv" in a)
    assert "default-src 'none'" in str(policy["content"])
    assert render_report(finished) == text


def test_wide_tables_say_on_a_phone_that_they_scroll(finished: Path) -> None:
    text = render_report(finished)
    wide = [part.split("</thead>")[0].count('<th scope="col">') > 3
            for part in text.split('<table class="sortable"')[1:]]  # fmt: skip
    assert text.count('class="sideways"') == sum(wide) > 0
    assert "@media (max-width: 44rem) { .sideways { display: block; } }" in text


def test_pictures_say_of_which_seeds_they_are(finished: Path) -> None:
    text = " ".join(render_report(finished).split())
    assert 'Every method on every OOD set <span class="quiet">all seeds</span>' in text
    assert 'Scores of ID test and of each OOD set <span class="quiet">seed 0</span>' in text


def test_whoever_cannot_see_it_is_told(finished: Path) -> None:
    page = Page(render_report(finished))
    tags = [tag for tag, _ in page.elements]
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(a.get("alt") for tag, a in page.elements if tag == "img")
    assert all(a.get("scope") for tag, a in page.elements if tag == "th")
    assert tags.count("caption") == tags.count("table")
    labels = {a["aria-label"] for _, a in page.elements if a.get("role") == "img"}
    assert any(re.match(r"Deviations by layer: blocks\.0 [+-]\d", str(label)) for label in labels)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)


def test_the_inputs_shown_are_those_of_the_files(finished: Path) -> None:
    page = Page(render_report(finished))
    pixels = np.load(finished / "layerwise/seed_0/ood_photos.npz")["shown_inputs"][0]
    image = next(a for _, a in page.elements if a.get("alt") == "Input 3 of photos")
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    found = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(found, np.kron(pixels[0], np.ones((12, 12), np.uint8)))
    scores = np.load(finished / "scores/seed_0/ood_photos.npz")["nervecode"]
    calibration = np.load(finished / "scores/seed_0/id_calibration.npz")["nervecode"]
    p_value = (1 + (calibration >= scores[3]).sum()) / (len(calibration) + 1)
    assert f"#3 class 0, taken for 1; score {scores[3]:.4g}, p {p_value:.2g}" in page.text


def test_colours_are_kept_and_large_pictures_are_not_enlarged() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 120, 90)).astype(np.uint8)
    data = base64.b64decode(thumbnail(pixels).partition(",")[2])
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(data))), pixels.transpose(1, 2, 0)
    )


@pytest.mark.parametrize("layers", [1, 2, 20])
def test_a_trace_stays_within_its_frame(layers: int) -> None:
    trace = np.linspace(-9, 1e6, layers)
    drawing = draw_trace(trace, np.stack([np.full(layers, -2.0), np.full(layers, 2.0)]))
    centres = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', drawing)
    assert len(centres) == layers
    assert all(0 <= float(x) <= 168 and 0 <= float(y) <= 72 for x, y in centres)
    heights = [float(y) for _, y in centres]
    assert heights == sorted(heights, reverse=True)  # more surprise is higher up


def test_series_are_drawn_channel_by_channel(finished: Path) -> None:
    series = np.stack([np.linspace(0, 3, 500), np.full(500, 1.5)])
    for path in finished.glob("layerwise/*/*.npz"):
        arrays = dict(np.load(path)) | {"shown_inputs": np.stack([series, series])}
        np.savez(path, **arrays)
    rehash(finished)
    page = Page(render_report(finished))
    lines = [str(a["points"]) for _, a in page.elements if a.get("class") == "series"]
    first, second = ([tuple(map(float, p.split(","))) for p in text.split()] for text in lines[:2])
    assert len(first) == 168
    assert first[0] == (8, 64) and first[-1] == (160, 8)  # low at the left, high at the right
    assert {y for _, y in second} == {36}  # half-way up, on the scale of all channels
    assert any(a.get("aria-label") == "Input 3 of photos over its steps" for _, a in page.elements)


def test_features_are_shown_as_numbers(finished: Path) -> None:
    for path in finished.glob("layerwise/*/*.npz"):
        arrays = dict(np.load(path)) | {"shown_inputs": np.array([[0.5, 12.25], [3, 4]])}
        np.savez(path, **arrays)
    rehash(finished)
    page = Page(render_report(finished))
    assert "0.5, 12.2" in page.text
    assert not any(str(a.get("alt")).startswith("Input") for _, a in page.elements)


def test_an_older_run_has_no_inputs_to_show(finished: Path) -> None:
    for path in finished.glob("layerwise/*/*.npz"):
        kept = {k: v for k, v in np.load(path).items() if not k.startswith("shown")}
        np.savez(path, **kept)
    rehash(finished)
    assert "The most surprising inputs" not in Page(render_report(finished)).text


def test_texts_of_a_run_are_not_markup(finished: Path) -> None:
    text = render_report(finished)
    assert "made &lt;up&gt;" in text and "too &lt;few&gt; inputs" in text
    assert "nervecode bench --config &lt;mine&gt;.yaml" in text


def test_a_failed_gate_withholds_every_figure_and_comes_first(run: Path) -> None:
    gate = {"required": 0.9, "passed": False, "accuracy": {"0": 0.95, "1": 0.8512}}
    finish_run(run, gate=gate, demo=True)
    found = results(run)
    rows = [row | dict.fromkeys(METRICS, "") | {"status": "not_reported"} for row in found["rows"]]
    (run / "results.json").write_text(json.dumps(found | {"rows": rows, "summary": []}))
    meta = json.loads((run / "meta.json").read_text())
    for name in ("results.csv", "results.json"):
        meta["stages"]["tables"]["outputs"].pop(name)
    meta["stages"]["tables"]["outputs"]["results.json"] = _sha(run / "results.json")
    del meta["sha256"]  # written by hand
    (run / "meta.json").write_text(json.dumps(meta))
    page = Page(render_report(run))
    assert "DEMO · FAILED GATE" in page.text
    assert "Accuracy gate not passed. ID test accuracy must reach 90.00 %" in page.text
    assert "the lowest is 85.12 %" in page.text
    assert "AUROC" not in page.text.partition("config.yaml")[0].partition("Pictures")[0]
    assert not {"groups", "sets", "set-1"} & set(page.tables)
    assert "--allow-low-accuracy" in page.text


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_figures_of_a_failed_gate_that_were_asked_for_are_stamped(run: Path) -> None:
    gate = {"required": 0.9, "passed": False, "accuracy": {"0": 0.95, "1": 0.8512}}
    page = Page(render_report(finish_run(run, gate=gate)))
    assert page.text.startswith("FAILED GATE: made_up")
    assert "groups" in page.tables
    assert page.text.index("Accuracy gate not passed") < page.text.index("By group")


def test_reasons_to_doubt_are_told(finished: Path) -> None:
    text = Page(render_report(finished)).text
    assert "2 seeds." in text and "Uncommitted source." in text
    assert re.search(r"false alarms on \d+\.\d % of ID test", text)


def test_it_is_small_and_quick(tmp_path: Path) -> None:
    groups = {f"set_{i}": ("near", "far")[i % 2] for i in range(10)}
    run = finish_run(write_run(tmp_path / "large", layers=20, groups=groups))
    began = time.monotonic()
    path = write_report(run)
    assert time.monotonic() - began < 5
    assert path == run / "report.html"
    assert path.stat().st_size < 3e6


def test_bad_input_is_refused_by_name(finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(InputError, match=r"page\.html: exists; --force replaces it"):
        write_report(finished, output=page)
    assert page.read_text() == "mine"
    write_report(finished, output=page, force=True)
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(InputError, match=r"unknown suffix '\.pdf'; Allowed: \.html"):
        write_report(finished, output=tmp_path / "page.pdf")
    with pytest.raises(InputError, match="no such folder"):
        write_report(finished, output=tmp_path / "nowhere" / "page.html")
    (finished / "layerwise/seed_0/ood_photos.npz").unlink()
    with pytest.raises(ArtifactError, match=r"ood_photos\.npz: is missing; `nervecode bench"):
        render_report(finished)
    (finished / "results.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"results\.json: is damaged"):
        render_report(finished)
    (finished / "results.json").unlink()
    with pytest.raises(ArtifactError, match=r"results\.json: is missing; `nervecode bench"):
        render_report(finished)


def test_a_run_without_its_config_says_so(finished: Path) -> None:
    (finished / "config.yaml").unlink()
    with pytest.raises(ArtifactError, match=r"config\.yaml: is missing or damaged"):
        render_report(finished)
