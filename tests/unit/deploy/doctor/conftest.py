"""What the tests of the doctor share."""

import pytest

from controller.container import launch_plan
from tests.support.aws_errors import refusal


@pytest.fixture
def deny(on_call):
    """`deny(client, operation)`: this role may not. `code` is what AWS answers."""

    def deny(client, operation, code="AccessDenied"):
        def refuse(params):
            raise refusal(code, operation)

        on_call(client, operation, refuse)

    return deny


@pytest.fixture
def ami(aws):
    return aws.ec2.register_image(Name="image-classifier", RootDeviceName="/dev/xvda")["ImageId"]


@pytest.fixture
def plan(aws, settings):
    return launch_plan(settings, "us-east-1")
