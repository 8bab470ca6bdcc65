"""What the roles of deploy/iam must not do, whoever has taken over a controller or a worker."""

import json

import pytest

from local.driver import ROOT
from tests.support.iam import Need, policy_of, refused, unused

EC2 = "arn:aws:ec2:us-east-1:123456789012"
LAUNCH = {
    "aws:RequestTag/fleet": "state",
    "ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/the-worker",
    "ec2:InstanceType": "c6i.large",
    "ec2:MetadataHttpTokens": "required",
    "ec2:Tenancy": "default",
}
TAGS = {
    "ec2:CreateAction": "RunInstances",
    "aws:RequestTag/fleet": "state",
    "aws:TagKeys": "Name,fleet,request,settings",
}
IF_NONE_MATCH = {"s3:if-none-match": "*"}


def may(tier: str, action: str, resource: str, context: dict[str, str] | None = None) -> bool:
    return refused(policy_of(tier), [Need(action, resource, context or {})]) == []


def test_a_controller_launches_workers_as_they_are_meant_to_be():
    assert may("controller", "ec2:RunInstances", f"{EC2}:instance/*", LAUNCH)
    assert may("controller", "ec2:RunInstances", f"{EC2}:subnet/subnet-2", {"ec2:SubnetID": "subnet-2"})
    assert may("controller", "ec2:CreateTags", f"{EC2}:instance/i-1", TAGS)


def test_a_controller_may_launch_them_in_either_market():
    for market in ("spot", "on-demand"):
        assert may(
            "controller", "ec2:RunInstances", f"{EC2}:instance/*", LAUNCH | {"ec2:InstanceMarketType": market}
        )


@pytest.mark.parametrize(
    "change",
    [
        {"ec2:InstanceType": "p5.48xlarge"},
        {"ec2:MetadataHttpTokens": "optional"},
        {"ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/administrator"},
        {"ec2:Tenancy": "dedicated"},
        {"aws:RequestTag/fleet": "somebody-else"},
    ],
)
def test_a_controller_launches_no_other_kind_of_instance(change):
    assert not may("controller", "ec2:RunInstances", f"{EC2}:instance/*", LAUNCH | change)


@pytest.mark.parametrize("missing", LAUNCH)
def test_what_a_launch_does_not_say_is_not_taken_for_granted(missing):
    context = {key: value for key, value in LAUNCH.items() if key != missing}
    assert not may("controller", "ec2:RunInstances", f"{EC2}:instance/*", context)


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-2", {}),
        ("ec2:RunInstances", f"{EC2}:subnet/subnet-3", {"ec2:SubnetID": "subnet-3"}),
        ("ec2:RunInstances", f"{EC2}:security-group/sg-2", {}),
        ("ec2:RunInstances", f"{EC2}:launch-template/lt-2", {}),
        ("ec2:RunInstances", f"{EC2}:key-pair/theirs", {}),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", {"aws:ResourceTag/fleet": "somebody-else"}),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", {}),
        (
            "ec2:CreateTags",
            f"{EC2}:instance/i-1",
            {"aws:ResourceTag/fleet": "state", "aws:TagKeys": "fleet"},
        ),
        ("ec2:CreateTags", f"{EC2}:instance/i-1", {"aws:ResourceTag/fleet": "other", "aws:TagKeys": "Name"}),
        ("ec2:CreateTags", f"{EC2}:instance/i-1", TAGS | {"aws:TagKeys": "Name,fleet,owner"}),
        ("ec2:CreateTags", f"{EC2}:instance/i-1", TAGS | {"aws:RequestTag/fleet": "somebody-else"}),
        ("ec2:ModifyInstanceAttribute", f"{EC2}:instance/i-1", {"aws:ResourceTag/fleet": "state"}),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/administrator",
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/the-worker",
            {"iam:PassedToService": "lambda.amazonaws.com"},
        ),
        ("s3:PutObject", "arn:aws:s3:::out/x", {}),
        ("s3:PutObject", "arn:aws:s3:::state/cache/x", {}),
        ("s3:PutObject", "arn:aws:s3:::state/workers/i-1", {}),
        ("s3:PutObject", "arn:aws:s3:::state/request-ids/other", {}),
        ("s3:DeleteObject", "arn:aws:s3:::state/fleet/state", {}),
        ("s3:DeleteObject", "arn:aws:s3:::state/request-ids/key", {}),
        ("s3:DeleteObject", "arn:aws:s3:::state/idempotency/x", {}),
        ("s3:GetObject", "arn:aws:s3:::somebody-elses/x", {}),
        ("s3:DeleteBucket", "arn:aws:s3:::in", {}),
        ("ssm:GetParameters", "arn:aws:ssm:us-east-1:123456789012:parameter/other/settings", {}),
        ("ssm:PutParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/classifier/settings", {}),
        ("sqs:PurgeQueue", "arn:aws:sqs:us-east-1:123456789012:work", {}),
        ("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:other", {}),
    ],
)
def test_a_controller_may_do_nothing_else(action, resource, context):
    assert not may("controller", action, resource, context)


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:PutObject", "arn:aws:s3:::state/fleet/state", IF_NONE_MATCH),
        ("s3:PutObject", "arn:aws:s3:::state/fleet/history", {}),
        ("s3:PutObject", "arn:aws:s3:::state/open/x", {}),
        ("s3:PutObject", "arn:aws:s3:::state/idempotency/x", {}),
        ("s3:PutObject", "arn:aws:s3:::state/request-ids/key", {}),
        ("s3:PutObject", "arn:aws:s3:::in/x", {}),
        ("s3:PutObject", "arn:aws:s3:::out/x", {}),
        ("s3:GetObject", "arn:aws:s3:::out/x", {}),
        ("s3:GetObject", "arn:aws:s3:::state/fleet/state", {}),
        ("s3:GetObject", "arn:aws:s3:::state/request-ids/key", {}),
        ("s3:GetObject", "arn:aws:s3:::state/idempotency/x", {}),
        ("s3:ListBucket", "arn:aws:s3:::out", {}),
        ("s3:ListBucket", "arn:aws:s3:::state", {}),
        ("s3:DeleteObject", "arn:aws:s3:::in/x", {}),
        ("s3:DeleteObject", "arn:aws:s3:::out/x", {}),
        ("s3:DeleteObject", "arn:aws:s3:::state/workers/i-1", {}),
        ("sqs:ReceiveMessage", "arn:aws:sqs:us-east-1:123456789012:work-dead", {}),
        ("ec2:RunInstances", f"{EC2}:instance/*", LAUNCH),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", {"aws:ResourceTag/fleet": "state"}),
        ("ec2:DescribeInstances", "*", {}),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/the-worker",
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
    ],
)
def test_a_worker_may_neither_rule_nor_read_what_is_not_for_it(action, resource, context):
    assert not may("worker", action, resource, context)


QUEUE = "arn:aws:sqs:us-east-1:123456789012:work"

READ_BY_BOTH = [
    ("s3:ListBucket", "arn:aws:s3:::photos"),
    ("s3:ListBucket", "arn:aws:s3:::scans"),
    ("s3:GetObject", "arn:aws:s3:::photos/pets/cat.jpg"),
    ("s3:GetObject", "arn:aws:s3:::scans/2024/1.tif"),
    ("sqs:GetQueueUrl", f"{QUEUE}-batches"),
    ("sqs:SendMessage", f"{QUEUE}-batches"),
]
BY_TIER = {
    "worker": [
        ("s3:GetObject", "arn:aws:s3:::state/batches/b/manifests/00000.json"),
        # Without it, a batch that was not cancelled would look forbidden: 403 instead of 404.
        ("s3:ListBucket", "arn:aws:s3:::state"),
        ("sqs:ReceiveMessage", f"{QUEUE}-batches"),
        ("sqs:ChangeMessageVisibility", f"{QUEUE}-batches"),
        ("sqs:DeleteMessage", f"{QUEUE}-batches"),
    ],
    "controller": [
        ("s3:PutObject", "arn:aws:s3:::state/batches/b/batch.json"),
        ("s3:PutObject", "arn:aws:s3:::state/open-batches/b"),
        ("s3:DeleteObject", "arn:aws:s3:::state/open-batches/b"),
        ("sqs:GetQueueAttributes", f"{QUEUE}-batches"),
    ],
}


@pytest.mark.parametrize("tier", BY_TIER)
def test_with_sources_batches_are_allowed_and_without_them_they_are_not(tier):
    needs = [Need(action, resource) for action, resource in READ_BY_BOTH + BY_TIER[tier]]
    assert refused(policy_of(f"{tier}-batches"), needs) == []
    both = {"Statement": policy_of(tier)["Statement"] + policy_of(f"{tier}-batches")["Statement"]}
    assert refused(both, needs) == []
    read_anyway = {"arn:aws:s3:::state"} if tier == "controller" else set()
    assert refused(policy_of(tier), needs) == [n for n in needs if n.resource not in read_anyway]
    assert unused(policy_of(f"{tier}-batches"), needs) == []


def test_with_a_topic_a_controller_may_tell_this_one_and_note_what_it_must_tell():
    needs = [
        Need("sns:Publish", "arn:aws:sns:us-east-1:123456789012:done"),
        Need("s3:PutObject", "arn:aws:s3:::state/notices/x"),
        Need("s3:DeleteObject", "arn:aws:s3:::state/notices/x"),
    ]
    assert refused(policy_of("controller-notices"), needs) == []
    assert refused(policy_of("controller"), needs) == needs
    assert unused(policy_of("controller-notices"), needs) == []
    others = [
        Need("sns:Publish", "arn:aws:sns:us-east-1:123456789012:alarms"),
        Need("sns:Subscribe", "arn:aws:sns:us-east-1:123456789012:done"),
    ]
    assert refused(policy_of("controller-notices"), others) == others


@pytest.mark.parametrize("tier", BY_TIER)
@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "arn:aws:s3:::photos/people/face.jpg"),
        ("s3:GetObject", "arn:aws:s3:::photos-of-others/pets/cat.jpg"),
        ("s3:PutObject", "arn:aws:s3:::photos/pets/cat.jpg"),
        ("s3:DeleteObject", "arn:aws:s3:::photos/pets/cat.jpg"),
        ("s3:DeleteObject", "arn:aws:s3:::state/batches/b/batch.json"),
        ("s3:ListBucket", "arn:aws:s3:::photos-of-others"),
        ("sqs:PurgeQueue", f"{QUEUE}-batches"),
        ("sqs:DeleteQueue", f"{QUEUE}-batches"),
    ],
)
def test_batches_change_no_source_and_read_nothing_else(tier, action, resource):
    for name in (tier, f"{tier}-batches"):
        assert refused(policy_of(name), [Need(action, resource)]) != []


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "arn:aws:s3:::state/fleet/state"),
        ("s3:GetObject", "arn:aws:s3:::state/idempotency/x"),
        ("s3:GetObject", "arn:aws:s3:::state/request-ids/key"),
        ("s3:GetObject", "arn:aws:s3:::state/open-batches/b"),
        ("s3:GetObject", "arn:aws:s3:::out/batches/b/results/00000/x.jsonl"),
        ("s3:PutObject", "arn:aws:s3:::state/batches/b/cancelled"),
        ("s3:PutObject", "arn:aws:s3:::state/open-batches/b"),
        ("s3:DeleteObject", "arn:aws:s3:::state/open-batches/b"),
    ],
)
def test_a_worker_rules_no_batch_either(action, resource):
    for name in ("worker", "worker-batches"):
        assert refused(policy_of(name), [Need(action, resource, IF_NONE_MATCH)]) != []


@pytest.mark.parametrize(
    "tier",
    [
        "controller",
        "controller-batches",
        "controller-key",
        "controller-notices",
        "worker",
        "worker-batches",
        "model",
    ],
)
def test_no_statement_has_a_wildcard_where_it_need_not(tier):
    """Only the actions that describe have no resources of their own."""
    text = (ROOT / f"deploy/iam/{tier}.json").read_text()
    for statement in json.loads(text)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        if statement["Resource"] == "*":
            assert [action.partition(":")[2].startswith("Describe") for action in actions] == [True] * len(
                actions
            )
