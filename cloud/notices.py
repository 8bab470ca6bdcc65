"""Publishes to an SNS topic that something is complete."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from cloud.clients import Client, sns_client
from cloud.clock import now
from cloud.errors import calling


class Notice(BaseModel, frozen=True):
    """What subscribers are told. The message is this as JSON."""

    kind: Literal["request", "batch"]
    id: str
    """The request-id or the batch-id."""
    path: str
    """Where the controller has the answer, such as `/requests/<request-id>`."""
    status: Literal["classified", "failed", "finished", "cancelled"]
    """Of a request `classified`, or `failed` if an image has; of a batch `finished` or `cancelled`."""
    counts: dict[str, int]
    """How many images are `classified`, and how many have `failed`."""
    at: datetime = Field(default_factory=now)


class Topic:
    """An SNS topic. `arn` may be "": then nothing can be published."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        self.sns: Client = sns_client(region_of(arn)) if arn else None

    def publish(self, notice: Notice) -> None:
        """Publishes a notice, with its kind and status as attributes, by which subscriptions can filter.

        Raises CloudError when SNS does not take it.
        """
        attributes = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in {"kind": notice.kind, "status": notice.status}.items()
        }
        with calling(f"publish to {self.arn}"):
            self.sns.publish(
                TopicArn=self.arn, Message=notice.model_dump_json(), MessageAttributes=attributes
            )


def region_of(arn: str) -> str:
    return arn.split(":")[3]
