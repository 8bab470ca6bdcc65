from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

State = Literal["ok", "wrong", "unknown"]
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "UnauthorizedOperation",
    "403",
    "Forbidden",
}
THROTTLED = {"RequestLimitExceeded", "RequestThrottled", "SlowDown", "Throttling", "ThrottlingException"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: State
    what: str
    fix: str = ""
    """What to do about it, if it is wrong."""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def wrong(what: str, fix: str) -> Finding:
    return Finding("wrong", what, fix)


def unknown(what: str, why: str) -> Finding:
    return Finding("unknown", f"{what} could not be checked: {why}")


@dataclass(frozen=True)
class Reply:
    """The reply to an AWS call, which may be an error."""

    code: str
    """AWS's error code, or the name of botocore's exception if AWS sent no reply, or "" without an error."""
    message: str
    """The error message, or ""."""
    content: dict[str, Any]
    """The reply as boto3 returns it. It is empty if AWS sent none."""

    @property
    def denied(self) -> bool:
        return self.code in DENIED

    @property
    def undecided(self) -> bool:
        """Whether it shows nothing: AWS cannot be reached, is too busy, or has failed."""
        status = self.content.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return bool(self.code) and (not self.content or status >= 500 or self.code in THROTTLED)

    def failure(self, action: str, resource: str) -> Finding:
        """Returns the finding that the call has failed, whatever the reason is."""
        if self.denied:
            return denied(action, resource)
        return unknown(f"{action} on {resource}", self.message or self.code)

    def unless_allowed(self, action: str, resource: str) -> list[Finding]:
        """Returns nothing if the call was allowed, though AWS may have refused its arguments."""
        return [self.failure(action, resource)] if self.denied or self.undecided else []


def attempt(call: Callable[..., Any], **arguments: Any) -> Reply:
    """Makes an AWS call. Returns errors of AWS and botocore as a Reply as well."""
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
        f"add {action} to the policy of this role; `terraform apply` sets the policies in deploy/iam",
    )
