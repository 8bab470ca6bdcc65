"""IAM policies against AWS calls: what a call needs, and whether a policy allows it.

Sources: https://docs.aws.amazon.com/service-authorization/latest/reference/ and
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from string import Template
from typing import Any

from local.driver import ROOT

Policy = dict[str, Any]

PLACES = {
    "account": "123456789012",
    "region": "us-east-1",
    "name": "classifier",
    "input_bucket": "in",
    "output_bucket": "out",
    "state_bucket": "state",
    "request_queue": "work",
    "ami_id": "ami-1",
    "launch_template_id": "lt-1",
    "worker_security_group": "sg-1",
    "worker_role": "the-worker",
    "instance_types": 'c7i.large", "c6i.large',
    "subnet_ids": 'subnet-1", "subnet-2',
    "notify_topic": "arn:aws:sns:us-east-1:123456789012:done",
    "source_buckets": 'photos", "arn:aws:s3:::scans',
    "source_objects": 'photos/pets*", "arn:aws:s3:::scans/*',
}
"""The values with which policy_of fills in a policy."""

S3_ACTIONS = {
    "HeadBucket": ["ListBucket"],
    "ListObjectsV2": ["ListBucket"],
    # Without s3:ListBucket a missing object looks forbidden: 403 instead of 404.
    "GetObject": ["GetObject", "ListBucket"],
    "HeadObject": ["GetObject", "ListBucket"],
    "PutObject": ["PutObject"],
    "DeleteObject": ["DeleteObject"],
}


@dataclass(frozen=True)
class Need:
    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, compare=False)


def policy_of(name: str) -> dict[str, Any]:
    """Returns the policy `deploy/iam/<name>.json`, filled in with PLACES."""
    found: dict[str, Any] = json.loads(
        Template((ROOT / f"deploy/iam/{name}.json").read_text()).substitute(PLACES)
    )
    return found


def s3_needs(operation: str, bucket: str, key: str, if_none_match: str) -> list[Need]:
    """`if_none_match`: the header of the call, or nothing."""
    context = {"s3:if-none-match": if_none_match} if if_none_match else {}
    arn = f"arn:aws:s3:::{bucket}"
    return [
        Need(f"s3:{action}", arn if action == "ListBucket" else f"{arn}/{key}", context)
        for action in S3_ACTIONS[operation]
    ]


def sqs_needs(operation: str, arn: str) -> list[Need]:
    return [Need(f"sqs:{operation.removesuffix('Batch')}", arn)]


def statements(policy: Policy) -> list[dict[str, Any]]:
    return list(policy["Statement"])


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allows(statement: dict[str, Any], need: Need) -> bool:
    return (
        statement["Effect"] == "Allow"
        and need.action in as_list(statement["Action"])
        and any(fnmatchcase(need.resource, pattern) for pattern in as_list(statement["Resource"]))
        and all(holds(kind, keys, need.context) for kind, keys in statement.get("Condition", {}).items())
    )


def holds(kind: str, keys: dict[str, Any], context: dict[str, str]) -> bool:
    """Each of the condition keys: those of ForAllValues hold, too, where the call has none."""
    if kind == "StringEquals":
        return all(context.get(key) in as_list(values) for key, values in keys.items())
    if kind == "Null":
        return all((key not in context) == (value == "true") for key, value in keys.items())
    if kind == "ForAllValues:StringEquals":
        return all(
            value in as_list(values)
            for key, values in keys.items()
            for value in context.get(key, "").split(",")
            if value
        )
    raise NotImplementedError(kind)


def refused(policy: Policy, needs: list[Need]) -> list[Need]:
    """Returns those that the policy does not allow."""
    return [need for need in needs if not any(allows(s, need) for s in statements(policy))]


def unused(policy: Policy, needs: list[Need]) -> list[tuple[str, str]]:
    """Returns the pairs of action and resource that the policy allows, and no call needed."""
    pairs = [
        (statement | {"Action": action, "Resource": resource}, action, resource)
        for statement in statements(policy)
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    ]
    return [(a, r) for statement, a, r in pairs if not any(allows(statement, need) for need in needs)]
