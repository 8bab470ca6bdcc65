from io import BytesIO

import pytest

from cloud.image_id import ImageId
from controller.autoscaling.planner import BUSY_SECONDS
from controller.container import assemble, is_aws, launch_plan
from controller.image_requests.upload import Upload
from tests.support.threads import join_threads


def test_the_settings_make_the_launch_plan(settings):
    changed = settings.model_copy(
        update={
            "instance_type": ("c7i.large", "c6i.large"),
            "market": "spot",
            "subnet_ids": ("subnet-1", "subnet-2"),
            "security_group_ids": ("sg-1",),
            "instance_profile": "workers",
            "key_name": "mine",
        }
    )
    plan = launch_plan(changed, "eu-central-1")
    assert plan.ami_id == settings.ami_id
    assert list(plan.choices())[:3] == [
        ("spot", "c7i.large", "subnet-1"),
        ("spot", "c7i.large", "subnet-2"),
        ("spot", "c6i.large", "subnet-1"),
    ]
    assert len(list(plan.choices())) == 8
    assert (plan.security_group_ids, plan.instance_profile, plan.key_name) == (("sg-1",), "workers", "mine")
    assert "AWS_REGION=eu-central-1\n" in plan.user_data
    assert f"REQUEST_QUEUE={settings.request_queue}\n" in plan.user_data


def test_the_parts_are_put_together(settings, aws, queue, work, png):
    """An image that is sent wakes the autoscaler, which launches a worker for its request."""
    services = assemble(settings, aws)
    request_id = services.request_ids.new()
    upload = Upload(ImageId.make(request_id, 0, "cat.png"), BytesIO(png), "image/png", None, "")
    watched = services.submissions.submit(request_id, [upload])
    assert services.autoscaler.wake.is_set()
    assert services.autoscaler.reconcile() == BUSY_SECONDS
    (instance,) = services.fleet_view.read().instances
    assert (instance.request_id, instance.name) == (f"{request_id[:16]}…", "app-tier-instance-1")
    work()
    assert watched.finished.wait(10)
    join_threads("poll-")
    services.autoscaler.reconcile()
    assert services.fleet_view.read().instances == []
    services.submissions.pool.shutdown()


@pytest.mark.parametrize(
    ("endpoint", "charged"),
    [
        ("https://s3.amazonaws.com", True),
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("http://127.0.0.1:4566", False),
        ("http://localhost:4566/amazonaws.com", False),
        ("https://notamazonaws.com", False),
    ],
)
def test_only_aws_charges(endpoint, charged):
    assert is_aws(endpoint) is charged
