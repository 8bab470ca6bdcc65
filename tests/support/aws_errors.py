from collections.abc import Callable
from typing import NoReturn

from botocore.exceptions import ClientError


def refusal(code: str, operation: str = "RunInstances") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{code} says AWS"}}, operation)


def raising(error: Exception) -> Callable[[object], NoReturn]:
    """Returns what can be called in place of AWS, and fails."""

    def refuse(params: object) -> NoReturn:
        raise error

    return refuse
