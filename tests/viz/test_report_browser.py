"""The report in a real browser: no errors, nothing from outside, it sorts, and everyone can use it.

pip install -e '.[browser]'; apt install chromium; pytest -m browser
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nervecode.viz.report import write_report

from .conftest import finish_run, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt install chromium)"),
]
WIDTHS = (390, 1024, 1440)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "no playwright: pip install -e '.[browser]'"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    with api.sync_playwright() as playwright:
        # In a container, Chromium's own sandbox can't be set up.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "made_up-1"
    root.mkdir()
    return write_report(finish_run(write_run(root)))


@pytest.fixture(scope="module")
def failed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "made_up-2"
    root.mkdir()
    gate = {"required": 0.9, "passed": False, "accuracy": {"0": 0.95, "1": 0.8}}
    return write_report(finish_run(write_run(root), gate=gate, demo=True))


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:
    """The page at one width; errors and requests of the load are kept on it."""
    yield from _opened(browser, page_file, viewport={"width": request.param, "height": 900})


def _opened(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    context = browser.new_context(**options)
    page = context.new_page()
    page.errors, page.requests = [], []
    page.on("console", lambda message: page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()


def test_it_renders_without_errors_and_loads_nothing_from_outside(
    page: Any, page_file: Path
) -> None:
    assert page.errors == []
    outside = [url for url in page.requests if not url.startswith("data:")]
    assert outside == [page_file.as_uri()]
    assert page.inner_text("h1") == "made_up"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    broken = "[...document.images].filter(image => !image.naturalWidth).length"
    assert page.evaluate(broken) == 0


def test_a_press_on_a_head_sorts_and_a_second_one_turns_it_round(page: Any) -> None:
    def column(number: int) -> list[str]:
        return list(page.locator(f"#groups tbody tr > :nth-child({number})").all_inner_texts())

    head = page.locator("#groups thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    figures = [float(text.partition("±")[0]) for text in column(3)]
    assert figures == sorted(figures, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    figures = [float(text.partition("±")[0]) for text in column(3)]
    assert figures == sorted(figures)
    page.locator("#groups thead th button").first.click()
    assert column(1) == sorted(column(1))
    assert page.locator("#groups [aria-sort]").count() == 1


def test_the_theme_switches_and_follows_the_system_until_then(page: Any) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark theme").click()
    assert background() == dark
    page.get_by_role("button", name="Light theme").click()
    assert background() == light


def test_it_is_read_without_script(browser: Any, page_file: Path) -> None:
    for page in _opened(browser, page_file, java_script_enabled=False):
        assert page.locator("#groups tbody tr").count() == 3
        assert "Accuracy gate passed" in page.inner_text("main")


def test_it_prints_with_every_table_open(page: Any) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#set-1").is_visible()
    assert not page.locator(".theme").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["page_file", "failed_file"])
def test_axe_finds_nothing(
    request: pytest.FixtureRequest, browser: Any, kind: str, width: int, scheme: str
) -> None:
    reason = "no axe-core: pip install -e '.[browser]'"
    axe = pytest.importorskip("axe_playwright_python", reason=reason)
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    file = request.getfixturevalue(kind)
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for page in _opened(browser, file, bypass_csp=True, **options):
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.evaluate(script)
        found = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_axe_can_find_something(browser: Any, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python")
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><title>x</title><img src='data:,'>")
    for page in _opened(browser, bad, bypass_csp=True):
        page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = {one["id"] for one in page.evaluate("axe.run()")["violations"]}
        assert {"image-alt", "html-has-lang"} <= found
