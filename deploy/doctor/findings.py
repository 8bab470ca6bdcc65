from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

State = Literal["ok", "wrong", "unknown"]
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "403",
    "Forbidden",
}


@dataclass(frozen=True)
class Finding:
    state: State
    what: str
    mend: str = ""
    """What to do about it."""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def wrong(what: str, mend: str) -> Finding:
    return Finding("wrong", what, mend)


def unknown(what: str, why: str) -> Finding:
    return Finding("unknown", f"{what} could not be looked at: {why}")


@dataclass(frozen=True)
class Reply:
    """Of an AWS call, whether it did what was asked or not."""

    code: str
    """AWS's error code; empty when there is no error."""
    message: str
    content: dict[str, Any]

    @property
    def denied(self) -> bool:
        return self.code in DENIED


def attempt(call: Callable[..., Any], **arguments: Any) -> Reply:
    try:
        return Reply("", "", call(**arguments))
    except ClientError as error:
        found = error.response.get("Error", {})
        return Reply(found.get("Code", ""), found.get("Message", ""), dict(error.response))
    except BotoCoreError as error:
        return Reply(type(error).__name__, str(error), {})


def denied(action: str, resource: str, consequence: str = "") -> Finding:
    return wrong(
        f"{action} on {resource} is not allowed{consequence}",
        f"add {action} to the policy of this role; deploy/iam has the policies, `terraform apply` sets them",
    )
