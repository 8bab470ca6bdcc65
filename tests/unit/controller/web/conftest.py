from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from cloud.clients import Clients


@pytest.fixture
def calls(client: FlaskClient, aws: Clients) -> Iterator[list[str]]:
    """The operations of AWS that were called since the client was made."""
    called: list[str] = []

    def note(model: Any, **_: object) -> None:
        called.append(model.name)

    for made in (aws.s3, aws.sqs, aws.ec2):
        made.meta.events.register("before-call", note)
    yield called
    for made in (aws.s3, aws.sqs, aws.ec2):
        made.meta.events.unregister("before-call", note)
