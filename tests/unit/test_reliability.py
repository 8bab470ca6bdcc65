"""The documents of what is promised name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["docs/reliability.md", "docs/threat-model.md"])
def test_each_test_that_is_named_exists(document: str):
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = re.findall(r"`(test_\w+(?:\.py)?)`", (ROOT / document).read_text())
    assert named
    assert not [name for name in named if name not in functions | {file.name for file in files}]


def test_each_command_that_is_named_exists():
    text, makefile = (ROOT / "docs/reliability.md").read_text(), (ROOT / "Makefile").read_text()
    commands = set(re.findall(r"`make (\w+)", text))
    assert commands
    assert not [name for name in commands if f"\n{name}:" not in makefile]
