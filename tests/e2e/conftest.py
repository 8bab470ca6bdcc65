from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from bench.photos import PHOTOS
from local.__main__ import FALLBACK
from local.driver import System, eventually, marked, running
from tests.support.browser import chromium


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system for the tests that only use it."""
    with running(tmp_path_factory.mktemp("system") / "output", **FALLBACK) as system:
        yield system


@pytest.fixture
def no_capacity(system: System) -> Iterator[None]:
    """Nothing is classified until the test gives EC2 its instances back; no earlier instance runs either."""
    system.limit(0)
    eventually(lambda: not system.active(), 60)
    yield
    system.limit(None)


@pytest.fixture
def start(tmp_path, request):
    """Starts a system with settings of the test's own. At its end no process may be left of it."""
    systems: list[System] = []
    with ExitStack() as stack:

        def start(**settings: str) -> System:
            output = tmp_path / f"output-{len(systems)}"
            settings = {**FALLBACK, "E2E_TEST": str(output), **settings}  # its weights need no network
            systems.append(stack.enter_context(running(output, **settings)))
            return systems[-1]

        yield start
    eventually(lambda: not any(marked(str(system.output)) for system in systems), 10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Opens an address in a browser that has no past."""
    contexts = []

    def visit(url: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four photos and a text file."""
    found = []
    for name, (data, _) in PHOTOS.items():
        found.append(tmp_path / f"{name}.jpg")
        found[-1].write_bytes(data)
    found.insert(2, tmp_path / "notes.txt")
    found[2].write_text("no picture")
    return found
