"""A hook of MkDocs, which knows one folder of pages only: it makes the site of the pages where they lie.

The site has the folders of the repository. A relative link therefore leads to the same file in both, whether
the file is a page, a picture or code, and MkDocs checks that it is there.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FILES = ("*.md", "docs/*.md", "docs/*.css", "deploy/*.md", "bench/*.md")
LINK = re.compile(r"\]\(([\w./-]+)")
"""The path that a page links to, without the fragment. Addresses have a colon."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of MkDocs' own folder by those of the site."""
    root = Path(config.docs_dir).resolve().parent
    theme = [file for file in files if file.src_dir != config.docs_dir]
    own = [File(path, str(root), config.site_dir, config.use_directory_urls) for path in paths(root)]
    return Files([*theme, *own])


def paths(root: Path) -> list[str]:
    """Returns the paths of FILES and of what they link to, from `root`."""
    files = [file for pattern in FILES for file in root.glob(pattern)]
    found = {*files, *(other for file in files for other in linked(file))}
    return sorted(str(file.relative_to(root)) for file in found)


def linked(file: Path) -> Iterator[Path]:
    for path in LINK.findall(file.read_text()):
        other = (file.parent / path).resolve()
        if other.is_file():
            yield other
