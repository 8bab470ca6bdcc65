from collections.abc import Iterator

import pytest

from local.endpoint import Endpoint


@pytest.fixture(scope="module")
def running() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(scope="module")
def endpoint(running: Endpoint) -> Endpoint:
    """One AWS for all tests of a module. A module whose tests need an empty one resets it before each."""
    return running
