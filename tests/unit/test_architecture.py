"""Which room may import which, as docs/architecture.md draws it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "cloud": set(),
    "worker": {"cloud"},
    "controller/image_requests": {"cloud"},
    "controller/batches": {"cloud", "controller/image_requests"},
    "controller/autoscaling": {"cloud", "controller/image_requests", "controller/batches"},
    "controller/dashboard": {
        "cloud",
        "controller/image_requests",
        "controller/batches",
        "controller/autoscaling",
    },
    "controller/web": {
        "cloud",
        "controller/image_requests",
        "controller/batches",
        "controller/autoscaling",
        "controller/dashboard",
    },
    "controller": {
        "cloud",
        "controller/image_requests",
        "controller/batches",
        "controller/autoscaling",
        "controller/dashboard",
        "controller/web",
    },
    "local": {"cloud"},
    "deploy": {"cloud", "controller", "controller/autoscaling", "worker"},
    "bench": {
        "cloud",
        "controller/image_requests",
        "controller/batches",
        "controller/autoscaling",
        "controller/web",
        "local",
        "worker",
    },
}


def room_of(module: str) -> str | None:
    """The room of a module, by its dotted name; None when it is none of this project's."""
    parts = module.split(".")
    rooms = [room for room in ("/".join(parts[:2]), parts[0]) if room in MAY_IMPORT or room == "tests"]
    return rooms[0] if rooms else None


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str):
    for file in (ROOT / room).rglob("*.py"):
        if room_of(".".join(file.relative_to(ROOT).with_suffix("").parts)) == room:
            found = {other for name in imports(file) if (other := room_of(name)) and other != room}
            assert found <= MAY_IMPORT[room], file


def test_no_test_module_imports_another():
    for file in (ROOT / "tests").rglob("*.py"):
        assert not [name for name in imports(file) if ".test_" in name], file


def test_domain_code_knows_no_http():
    for room in ("image_requests", "batches", "autoscaling"):
        for file in (ROOT / "controller" / room).rglob("*.py"):
            assert not [name for name in imports(file) if name.startswith(("flask", "werkzeug"))], file
