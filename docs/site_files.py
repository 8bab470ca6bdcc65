"""A hook of MkDocs, which itself knows one folder of pages only: it makes the site of the pages where they lie.

The site has the folders of the repository. A relative link therefore leads to the same file in both, whether
the file is a page, a picture or code, and MkDocs checks that it is there.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = ("*.md", "docs/*.md", "deploy/*.md", "bench/*.md")
LINK = re.compile(r"\]\(([\w./-]+)")
"""The path that a page links to, without the fragment. Addresses have a colon."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of MkDocs' own folder by the pages and by what they link to."""
    root = Path(config.docs_dir).parent
    theme = [file for file in files if file.src_dir != config.docs_dir]
    own = [File(path, str(root), config.site_dir, config.use_directory_urls) for path in documents(root)]
    return Files([*theme, *own])


def documents(root: Path) -> list[str]:
    """The paths of the pages and of the files that they link to, from `root`."""
    pages = [page for pattern in PAGES for page in root.glob(pattern)]
    found = {*pages, *(file for page in pages for file in linked(page))}
    return sorted(str(file.relative_to(root)) for file in found)


def linked(page: Path) -> Iterator[Path]:
    for path in LINK.findall(page.read_text()):
        file = (page.parent / path).resolve()
        if file.is_file():
            yield file
