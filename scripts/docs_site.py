"""A hook of mkdocs: pages that lie beside docs/ join the site, links to source code become text.

The repository has no address of its own; with `repo_url` in mkdocs.yml they lead there.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# File of the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "runs/README.md": "runs.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie beside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page to where they stand on the site."""
    uri = page.file.src_uri
    source = {page: file for file, page in PAGES.items()}.get(uri, f"docs/{uri}")
    return with_site_links(markdown, source, config.repo_url)


def with_site_links(markdown: str, source: str, repo_url: str | None = None) -> str:
    """The text of a file of the repository with its links as the site has them."""
    here = site_path(source) or source

    def link(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        place = normpath(f"{dirname(source)}/{path}".lstrip("/"))
        page = site_path(place)
        if page is not None:
            return f"{image}[{text}]({relpath(page, dirname(here) or '.')}{hash_}{anchor})"
        return f"[{text}]({repo_url.rstrip('/')}/blob/main/{place})" if repo_url else text

    return LINK.sub(link, markdown)


def site_path(place: str) -> str | None:
    """Where a file of the repository stands on the site; None where it does not."""
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return PAGES.get(place)
