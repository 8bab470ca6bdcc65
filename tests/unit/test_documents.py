"""The documents become a site, and the commands, addresses and variables that they name exist."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from flask import Flask

from cloud.settings import ControllerSettings
from controller.batch import read_arguments
from tests.support.documents import PAGES, ROOT

ADDRESS = re.compile(r"`(GET|POST|PUT|DELETE) (/[^`?]*)")
REQUEST = re.compile(r"http://127\.0\.0\.1:8000((?:/[\w.]*|<[\w-]+>)+)")
IDS = re.compile(r"<(request|batch)-id>")


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    done = build(ROOT, tmp_path)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for page in PAGES[1:]:
        assert (tmp_path / "docs" / page.stem / "index.html").exists()
    assert "Elastic image classifier" in (tmp_path / "index.html").read_text()
    assert "docs/using/" in (tmp_path / "index.html").read_text()


def test_a_page_that_links_to_nothing_is_an_error(tmp_path: Path):
    for folder in ("docs", "deploy", "bench", "cloud"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".terraform"))
    for file in ("README.md", "SECURITY.md", "mkdocs.yml"):
        shutil.copy(ROOT / file, tmp_path)
    with (tmp_path / "docs" / "using.md").open("a") as page:
        page.write(
            "[a page](nowhere.md), [code](../cloud/nothing.py), [a section](batches.md#no-such-section)\n"
        )
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for broken in ("nowhere.md", "../cloud/nothing.py", "no-such-section"):
        assert re.search(f"WARNING.*{broken}", done.stderr), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_of_make_exists(page: Path):
    makefile = (ROOT / "Makefile").read_text()
    commands = set(re.findall(r"(?:`|^)make (\w+)", page.read_text(), re.MULTILINE))
    assert not [name for name in commands if f"\n{name}:" not in makefile]


def test_each_address_exists(start: Callable[..., Flask]):
    known = start().url_map.bind("localhost")
    text = "\n".join(page.read_text() for page in PAGES)
    named = {(method, path.strip()) for method, path in ADDRESS.findall(text)}
    shown = {("GET", path) for path in REQUEST.findall(text) if not path.endswith(("/cancel", "/retry"))}
    assert ("POST", "/requests/<request-id>/retry") in named
    assert ("GET", "/batches/<batch-id>/events") in shown
    for method, path in named | shown:
        assert known.match(IDS.sub("0" * 32, path), method), "it raises NotFound or MethodNotAllowed"


def test_each_variable_exists():
    code = [
        ROOT / "Makefile",
        ROOT / "local/install.sh",
        *ROOT.glob("local/*.py"),
        *ROOT.glob("worker/bake/*.py"),
    ]
    known = "\n".join(file.read_text() for file in code)
    settings = {name.upper() for name in ControllerSettings.model_fields}
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"\b([A-Z][A-Z_]{3,})=", text))
    assert {"HOST", "PRECISION", "TORCH_INDEX_URL"} <= named
    assert not [name for name in named - settings if f'"{name}"' not in known and f"${{{name}" not in known]


def test_each_module_exists():
    named = {name for page in PAGES for name in re.findall(r"python -m ([\w.]+)", page.read_text())}
    assert {"worker.bake", "controller.batch", "deploy.doctor"} <= named
    assert not [name for name in named if find_spec(name) is None]


def test_the_command_of_batches_is_understood():
    [command] = re.findall(
        r"^\S+ -m controller\.batch (.*)$", (ROOT / "docs/batches.md").read_text(), re.MULTILINE
    )
    order = read_arguments(shlex.split(command))
    assert (order.source, order.name, order.budget) == ("s3://photos/2026/", "Field trip", 2)
