"""For Prometheus, in both tiers: the calls of AWS."""

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


def count_calls(events: Any) -> None:
    """From now on, of all clients whose session's or own event emitter this is."""
    events.register("after-call", on_reply)
    events.register("after-call-error", on_no_reply)


def on_reply(event_name: str, parsed: dict[str, Any], **_: object) -> None:
    call = called(event_name)
    AWS_CALLS.labels(**call).inc()
    if "Error" in parsed:
        AWS_ERRORS.labels(**call, code=parsed["Error"].get("Code") or "unknown").inc()


def on_no_reply(event_name: str, **_: object) -> None:
    call = called(event_name)
    AWS_CALLS.labels(**call).inc()
    AWS_ERRORS.labels(**call, code="no_answer").inc()


def called(event_name: str) -> dict[str, str]:
    """`after-call.s3.GetObject`, taken apart."""
    _, service, operation = event_name.split(".", 2)
    return {"service": service, "operation": operation}
