import pytest

from cloud import prices
from cloud.prices import CallKind, dollars_for, kind_of
from cloud.settings import ControllerSettings


@pytest.mark.parametrize(
    ("service", "operation", "kind"),
    [
        ("s3", "PutObject", CallKind.S3_PUT),
        ("s3", "ListObjectsV2", CallKind.S3_PUT),
        ("s3", "GetObject", CallKind.S3_GET),
        ("s3", "HeadObject", CallKind.S3_GET),
        ("s3", "DeleteObject", None),
        ("s3", "DeleteObjects", None),
        ("sqs", "ReceiveMessage", CallKind.SQS),
        ("sqs", "DeleteMessageBatch", CallKind.SQS),
        ("sns", "Publish", CallKind.SNS),
        ("ec2", "RunInstances", None),
    ],
)
def test_each_call_has_the_price_that_aws_lists_for_it(service, operation, kind):
    assert kind_of(service, operation) == kind


def test_a_million_calls_of_each_kind_cost_what_the_table_says():
    assert dollars_for({}) == 0
    assert dollars_for({kind: 1_000_000 for kind in CallKind}) == pytest.approx(6.3)


def test_the_instance_is_the_one_that_the_controller_launches_by_default():
    fields = ControllerSettings.model_fields
    assert fields["instance_type"].default == (prices.INSTANCE_TYPE,)
    assert fields["price_per_hour"].default == prices.INSTANCE_HOUR
