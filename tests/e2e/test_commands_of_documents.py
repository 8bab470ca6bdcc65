"""The commands of the documents, as somebody types them who has read from the top of the page on."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.photos import PHOTOS
from local.driver import ROOT, System
from tests.support.documents import COMMANDS, section
from tests.support.programs import need

USING = (ROOT / "docs" / "using.md").read_text()
MISTAKE = section(USING, "Errors")
PREPARED = """
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --max-time 30 "$@"; }
"""
ID = re.compile(r"/(requests|batches)/([0-9a-f]{32})")


@pytest.fixture
def folder(system: System, tmp_path: Path) -> Path:
    """One that looks like that of the project, in which the system runs on port 8000."""
    for name in ("deploy", "controller"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "8000").symlink_to(system.aws_env.parent)
    return tmp_path


def typed(commands: str, system: System, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the commands, and stops at the first that fails or is refused."""
    need("curl")
    return subprocess.run(
        ["bash", "-c", PREPARED + commands.replace("http://127.0.0.1:8000/", system.url)],
        cwd=folder,
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", r"^cat:.*cat$"),
        ("docs/using.md", r"^event: image$"),
        ("docs/batches.md", r'^"2026/coffee.jpg","classified","espresso"'),
        ("docs/local-aws.md", r'"ApproximateNumberOfMessages": "\d+"'),
    ],
)
def test_every_command_works(page: str, printed: str, system: System, folder: Path):
    name, (data, _) = next(iter(PHOTOS.items()))
    output = system.post((name, data)).text
    for block in COMMANDS.findall((ROOT / page).read_text().replace(MISTAKE, "")):
        latest = dict(ID.findall(output))
        commands = block.replace("<request-id>", latest["requests"])
        commands = commands.replace("<batch-id>", latest.get("batches", "none yet"))
        done = typed(commands, system, folder)
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        output += done.stdout
    assert re.search(printed, output, re.MULTILINE), output


def test_the_error_is_the_one_that_the_page_shows(system: System, folder: Path):
    [command] = COMMANDS.findall(MISTAKE)
    [shown] = re.findall(r"^```json\n(.*?)^```$", MISTAKE, re.MULTILINE | re.DOTALL)
    done = typed(command, system, folder)
    assert done.returncode != 0
    assert json.loads(done.stdout) == json.loads(shown)
