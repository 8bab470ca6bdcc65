from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.system import System, eventually, marked, running


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system for the tests that only use it."""
    with running(tmp_path_factory.mktemp("system") / "output") as system:
        yield system


@pytest.fixture
def start(tmp_path, request):
    """Starts a system with settings of the test's own. At its end no process may be left of it."""
    systems: list[System] = []
    with ExitStack() as stack:

        def start(**settings: str) -> System:
            output = tmp_path / f"output-{len(systems)}"
            systems.append(stack.enter_context(running(output, E2E_TEST=str(output), **settings)))
            return systems[-1]

        yield start
    eventually(lambda: not any(marked(str(system.output)) for system in systems), 10)
