"""A hook of mkdocs: files outside docs/ that pages link to are part of the site.

A link such as `../../examples/own_method.py` works in the repository and in the site.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, and those that these link to."""
    pending = [f"{DOCS}{page.src_uri}" for page in files.documentation_pages()]
    added = set[str]()
    while pending:
        page = pending.pop()
        for path in _targets(page):
            if not path.startswith(DOCS) and path not in added and (ROOT / path).is_file():
                added.add(path)
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
                pending += [path] * path.endswith(".md")
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to other folders of the repository to their copies inside the site."""
    here = posixpath.dirname(page.file.src_uri)
    folder = posixpath.dirname(_in_repository(page.file.src_uri))

    def inside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["path"]))
        return posixpath.relpath(target.removeprefix(DOCS), here or ".")

    return LINK.sub(inside, markdown)


def _targets(page: str) -> Iterator[str]:
    """Yield the paths, from the root of the repository, that a page links to."""
    for link in LINK.finditer((ROOT / page).read_text()):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), link["path"]))


def _in_repository(uri: str) -> str:
    """Return the path of a file of the site in the repository."""
    return f"{DOCS}{uri}" if (ROOT / DOCS / uri).is_file() else uri
