"""What the tests of the doctor share."""

import pytest

from tests.support.aws_errors import refusal


@pytest.fixture
def deny(on_call):
    """`deny(client, operation)`: this role may not. `code` is what AWS answers."""

    def deny(client, operation, code="AccessDenied"):
        def refuse(params):
            raise refusal(code, operation)

        on_call(client, operation, refuse)

    return deny
