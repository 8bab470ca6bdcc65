"""What the tests of the doctor share."""

import pytest

from controller.container import launch_plan
from tests.support.aws_errors import raising, refusal


@pytest.fixture
def deny(on_call):
    """`deny(client, operation)`: this role may not. `code` is what AWS answers."""

    def deny(client, operation, code="AccessDenied"):
        on_call(client, operation, raising(refusal(code, operation)))

    return deny


@pytest.fixture
def ami(aws):
    return aws.ec2.register_image(Name="image-classifier", RootDeviceName="/dev/xvda")["ImageId"]


@pytest.fixture
def plan(aws, settings):
    return launch_plan(settings, "us-east-1")
