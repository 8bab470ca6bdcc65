"""Prometheus metrics of the calls to AWS, which both tiers export."""

from typing import Any

from prometheus_client import Counter

AWS_CALLS = Counter(
    "classifier_aws_calls", "Calls of AWS; one with its retries is one.", ["service", "operation"]
)
AWS_ERRORS = Counter(
    "classifier_aws_errors",
    "Calls of AWS that ended in an error, by AWS's code for it; `no_answer` when there was none.",
    ["service", "operation", "code"],
)
CHARGED_CALLS = Counter(
    "classifier_aws_charged_calls",
    "Calls that AWS charges, by what they cost: `s3_put`, `s3_get`, `sqs` or `sns`; each retry counts.",
    ["kind"],
)


def count_calls(events: Any) -> None:
    """Counts all further calls of a boto3 session or client, whose event emitter is `events`."""
    events.register("after-call", on_reply)
    events.register("after-call-error", on_no_reply)


def on_reply(event_name: str, parsed: dict[str, Any], **_: object) -> None:
    call = call_labels(event_name)
    AWS_CALLS.labels(**call).inc()
    if "Error" in parsed:
        AWS_ERRORS.labels(**call, code=parsed["Error"].get("Code") or "unknown").inc()


def on_no_reply(event_name: str, **_: object) -> None:
    call = call_labels(event_name)
    AWS_CALLS.labels(**call).inc()
    AWS_ERRORS.labels(**call, code="no_answer").inc()


def call_labels(event_name: str) -> dict[str, str]:
    """Returns the labels of a call from the name of its event, such as `after-call.s3.GetObject`."""
    _, service, operation = event_name.split(".", 2)
    return {"service": service, "operation": operation}
