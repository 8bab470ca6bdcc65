"""The documents of the project, and what is in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of commands that a test runs. Those that it cannot run are in blocks that are not marked `sh`."""


def section(page: str, heading: str) -> str:
    """Returns the text between that heading and the next one. Raises KeyError if there is no such heading."""
    ends = {found[1]: found.end() for found in HEADING.finditer(page)}
    text = page[ends[heading] :]
    following = HEADING.search(text)
    return text[: following.start()] if following else text
