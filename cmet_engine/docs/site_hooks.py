"""Hooks of the documentation site: pages and pictures that stand elsewhere in the repository, and links between them."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
HERE = "cmet_engine/docs"
PAGES = {
    "cmet_blender/README.md": "blender.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CONSENT.md": "consent.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "cmet_engine/assets/MODEL_CARD.md": "model_card.md",
    "cmet_engine/assets/LICENCES.md": "licences.md",
    "README.md": "index.md",
}
PICTURES = (".png", ".jpg", ".svg", ".webp")
_LINK = re.compile(r"(?P<before>!?\[(?P<text>[^\]]*)\]\()(?P<target>[^)#\s]+)(?P<after>(?:#[^)]*)?\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of `PAGES` and the add-on's pictures."""
    for source, page in PAGES.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=_linked(source, (ROOT / source).read_text("utf-8"))))
    for picture in sorted((ROOT / "cmet_blender" / "docs").iterdir()):
        if picture.suffix in PICTURES:
            files.append(File.generated(config, f"blender/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links to their pages."""
    source = f"{HERE}/{page.file.src_uri}"
    return _linked(source, markdown) if (ROOT / source).is_file() else markdown


def _site_path(path: str) -> str | None:
    """Where a file of the repository stands on the site; None where it does not."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith(f"{HERE}/"):
        return path.removeprefix(f"{HERE}/")
    if path.startswith("cmet_blender/docs/") and path.endswith(PICTURES):
        return f"blender/{posixpath.basename(path)}"
    return None


def _linked(source: str, markdown: str) -> str:
    """The text of a repository's file with links that hold on the site; a link to code becomes its text."""

    def replace(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if _site_path(path) is None and source.startswith(HERE):
            path = f"{HERE}/{target}" if (ROOT / HERE / target).exists() or target in PAGES.values() else path
        place = _site_path(path)
        return f"{match['before']}{place}{match['after']}" if place else match["text"]

    return _LINK.sub(replace, markdown)
