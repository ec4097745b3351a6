"""Every Python block of README and docs runs; the blocks of one page share their names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {
    str(path.relative_to(ROOT)): blocks
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if (blocks := BLOCK.findall(path.read_text(encoding="utf-8")))
}
EXPORTING = {"docs/deployment.md"}
SLOW = {*EXPORTING, "docs/integrations.md"}


def names_of_a_reader() -> dict[str, Any]:
    """What the pages take for granted: a model for 3 classes, inputs, and two loaders."""
    torch.manual_seed(0)
    y = torch.randint(3, (400,))
    x = torch.randn(400, 8) + torch.eye(3, 8)[y] * 3
    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    train, held_out = TensorDataset(x[:300], y[:300]), TensorDataset(x[300:], y[300:])
    return {
        "__name__": "snippet",
        "model": model,
        "x": torch.randn(5, 8),
        "train_loader": DataLoader(train, 64),
        "held_out_loader": DataLoader(held_out, 64),
    }


def run(page: str) -> dict[str, Any]:
    if page == "docs/integrations.md":
        for package in ("transformers", "timm", "lightning", "accelerate"):
            pytest.importorskip(package, reason="the extra `integrations` brings it")
    names = names_of_a_reader()
    for number, block in enumerate(PAGES[page], start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in PAGES]
)
def test_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page in EXPORTING:
        for package in ("onnxruntime", "onnxscript"):
            pytest.importorskip(package)
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            pytest.skip("AOTInductor needs a C++ compiler")
    run(page)


@pytest.mark.parametrize("block", PAGES["docs/monitoring.md"])
def test_each_block_on_monitoring_runs_alone(block: str) -> None:
    exec(compile(block, "docs/monitoring.md", "exec"), {"__name__": "snippet"})


def test_the_pages_that_must_have_snippets_have_them() -> None:
    pages = {"api", "diagnostics", "integrations", "monitoring"}
    assert {"README.md", *(f"docs/{page}.md" for page in pages)} <= set(PAGES)


def test_readme_leaves_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run("README.md")
    torch.testing.assert_close(names["logits"], names["model"](names["x"]), rtol=0, atol=0)
    surprise = names["surprise"]
    assert surprise.p_value.shape == surprise.percentile.shape == (5,)
    assert surprise.by_layer.shape == (5, surprise.num_layers)


def test_a_broken_snippet_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGES, "README.md", ["wrapped = 1\n", "wrapped.fit()\n"])
    with pytest.raises(AttributeError) as caught:
        run("README.md")
    assert caught.traceback[-1].frame.code.raw.co_filename == "README.md, block 2"


def test_api_page_has_every_public_name() -> None:
    """Each room's `__all__` is on the page, by its name in code type."""
    import nervecode
    from nervecode import core, layers, monitor, scoring, training

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for room in (nervecode, core, layers, monitor, scoring, training):
        for name in room.__all__:
            assert re.search(rf"`(\w+\.)*{name}\b", page), f"{room.__name__}.{name}"


def test_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        path = ROOT / page
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{page}: {target}"
