"""Sends and receives the messages in the request queue, each of which has an image-id as its body."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from cloud.clients import SQSClient
from cloud.errors import CloudError, NotFound, calling

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 10
"""The most messages in one call of SQS.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
"""

LONGEST_DELAY = 900
"""The most seconds for which SQS delays a message."""

POSTPONED = "Postponed"
"""The name of the message attribute with the number of times that a message was postponed."""

TRIED = "Tried"
"""The name of the message attribute with the number of receives that counted before it was replaced."""


MOST_DIGITS = 9
"""Of a number in a message attribute."""


@dataclass(frozen=True)
class Message:
    body: str
    """Normally an image-id. The receiver must check it, because a queue accepts any text."""
    receipt_handle: str
    receives: int
    """How often its image may have been tried, including this time.

    These are the receives of this message (SQS's ApproximateReceiveCount) and of those that it replaces,
    except for the receives after which they were replaced.
    """
    postponed: int = 0
    """How often the message has been postponed."""


@dataclass(frozen=True)
class QueueCounts:
    """The numbers of messages in the queue. SQS's counts are approximate and may lag by up to a minute."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def backlog(self) -> int:
        """The number of all messages in the queue."""
        return self.visible + self.in_flight + self.delayed


class RequestQueue:
    """The request queue, together with its dead-letter queue. The methods raise CloudError when SQS fails.

    Received messages are in flight for `visibility_timeout` seconds, or as long as the queue says.
    """

    def __init__(self, sqs: SQSClient, name: str, visibility_timeout: int | None = None) -> None:
        self.sqs, self.name = sqs, name
        self._receiving: dict[str, Any] = (
            {} if visibility_timeout is None else {"VisibilityTimeout": visibility_timeout}
        )
        self._urls: dict[str, str] = {}

    def send(self, bodies: Iterable[str]) -> None:
        """Sends a message for each body. Calls SQS once for each 10 of them.

        Raises CloudError also when SQS refuses some of the messages twice.
        """
        for batch in batches(bodies):
            self._call_batch(
                "send_message_batch",
                [{"Id": str(n), "MessageBody": body} for n, body in enumerate(batch)],
            )

    def receive(self, most: int, wait_seconds: int) -> list[Message]:
        """Returns at most `most` messages, which are in flight from then on. `most` is from 1 to 10.

        If no message is visible, waits for one for at most `wait_seconds`, and returns an empty list if none
        comes.
        """
        return self._receive(self.url, most, wait_seconds)

    def delete(self, messages: Sequence[Message]) -> None:
        """Deletes received messages. Raises CloudError also when SQS refuses some of them twice."""
        for batch in batches(messages):
            self._call_batch("delete_message_batch", entries(batch))

    def extend(self, messages: Sequence[Message], seconds: int) -> None:
        """Makes the visibility timeout of received messages end in `seconds`. Deleted ones are ignored."""
        for batch in batches(messages):
            with calling(f"extend messages of {self.name}"):
                self.sqs.change_message_visibility_batch(
                    QueueUrl=self.url, Entries=entries(batch, VisibilityTimeout=seconds)
                )

    def give_back(self, messages: Sequence[Message]) -> None:
        """Makes received messages visible again at once."""
        self.extend(messages, 0)

    def renew(self, messages: Sequence[Message]) -> None:
        """Does what `give_back` does, but that the messages were received this time does not count."""
        self._replace(messages, 0, 0)

    def postpone(self, messages: Sequence[Message], seconds: float) -> None:
        """Makes received messages visible again in `seconds`, or in 15 minutes if that is sooner.

        That they were received this time does not count.
        """
        self._replace(messages, min(round(seconds), LONGEST_DELAY), 1)

    def replace(self, message: Message, bodies: Sequence[str], seconds: float = 0, tries: int = 0) -> None:
        """Sends a message for each body, at most ten, in place of a received one, which is deleted last.

        The new ones are visible in `seconds`, at most 15 minutes, have been received `tries` times, and have
        been postponed as often as that one.
        """
        delay = min(round(seconds), LONGEST_DELAY)
        new = [sent(n, body, delay, tries, message.postponed) for n, body in enumerate(bodies)]
        self._call_batch("send_message_batch", new)
        self.delete([message])

    def counts(self) -> QueueCounts:
        return self._counts(self.url)

    def dead_letters(self) -> list[Message]:
        """Receives at most 10 messages from the dead-letter queue: they were received too often.

        Those that are not deleted are visible again after a while. There are none if somebody has deleted the
        dead-letter queue, although the redrive policy still names it.
        """
        try:
            url = self._dead_letter_url()
            return self._receive(url, MAX_BATCH, 0) if url and self._counts(url).visible else []
        except NotFound as error:
            log.warning("there are no dead letters: %s", error)
            return []

    def delete_dead_letters(self, messages: Sequence[Message]) -> None:
        if messages and (url := self._dead_letter_url()):
            self._call_batch("delete_message_batch", entries(messages), url)

    def check(self) -> None:
        """Raises CloudError when the queue cannot be reached."""
        self.counts()

    @property
    def url(self) -> str:
        return self._url(self.name)

    def _url(self, name: str) -> str:
        if name not in self._urls:
            with calling(f"find the queue {name}"):
                self._urls[name] = part_of(self.sqs.get_queue_url(QueueName=name), "QueueUrl")
        return self._urls[name]

    def _dead_letter_url(self) -> str | None:
        """Returns the URL of the queue that the redrive policy names, or None if there is no policy."""
        with calling(f"read the redrive policy of {self.name}"):
            attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
        policy = json.loads(attributes.get("Attributes", {}).get("RedrivePolicy", "{}"))
        return self._url(policy["deadLetterTargetArn"].rpartition(":")[2]) if policy else None

    def _counts(self, url: str) -> QueueCounts:
        names: list[Any] = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
        with calling(f"count the messages of {self.name}"):
            reply = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
            found = part_of(reply, "Attributes")
        return QueueCounts(*(int(found[name]) for name in names))

    def _receive(self, url: str, most: int, wait_seconds: int) -> list[Message]:
        with calling(f"receive from {self.name}"):
            reply = self.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                MessageAttributeNames=[POSTPONED, TRIED],
                **self._receiving,
            )
        return [read_message(m) for m in reply.get("Messages", [])]

    def _replace(self, messages: Sequence[Message], seconds: int, postponed: int) -> None:
        """Replaces received messages by new ones that are visible in `seconds`.

        The old ones are deleted last. A process that dies in between leaves both, which is harmless, because
        the first prediction of an image stays.
        """
        for batch in batches(messages):
            new = [
                sent(n, message.body, seconds, message.receives - 1, message.postponed + postponed)
                for n, message in enumerate(batch)
            ]
            self._call_batch("send_message_batch", new)
            self._call_batch("delete_message_batch", entries(batch))

    def _call_batch(self, operation: str, batch: list[dict[str, Any]], url: str = "") -> None:
        """Calls a batch operation of SQS, and once more for the entries that SQS refuses.

        SQS may refuse some entries of a batch while the call itself succeeds. Raises CloudError when it
        refuses them again.
        """
        refused: list[Any] = []
        for _ in range(2):
            with calling(f"{operation} on {self.name}"):
                refused = getattr(self.sqs, operation)(QueueUrl=url or self.url, Entries=batch).get(
                    "Failed", []
                )
            if not refused:
                return
            ids = {entry["Id"] for entry in refused}
            batch = [entry for entry in batch if entry["Id"] in ids]
        raise CloudError(
            f"{self.name} refused {len(refused)} messages of {operation}: {refused[0].get('Message')}"
        )


def part_of(reply: Mapping[str, Any], name: str) -> Any:
    """Returns a part that each reply has.

    Raises CloudError when it is missing: botocore takes a reply of SQS that was cut for an empty one.
    """
    if name not in reply:
        raise CloudError(f"the reply of AWS is not whole: it has no {name}")
    return reply[name]


def read_message(found: Any) -> Message:
    """Returns a message as boto3 gives it."""
    attributes = found.get("MessageAttributes", {})
    return Message(
        found["Body"],
        found["ReceiptHandle"],
        int(found["Attributes"]["ApproximateReceiveCount"]) + number_in(attributes, TRIED),
        number_in(attributes, POSTPONED),
    )


def sent(n: int, body: str, delay: int, tried: int, postponed: int) -> dict[str, Any]:
    """Returns entry `n` of SendMessageBatch: a message that replaces another one, `delay` seconds later."""
    return {
        "Id": str(n),
        "MessageBody": body,
        "DelaySeconds": delay,
        "MessageAttributes": {POSTPONED: number(postponed), TRIED: number(tried)},
    }


def number(value: int) -> dict[str, str]:
    """Returns the value of a message attribute."""
    return {"DataType": "Number", "StringValue": str(value)}


def number_in(attributes: Mapping[str, Any], name: str) -> int:
    """Returns a number among the message attributes. Anyone who may send can write anything there."""
    value = attributes.get(name, {}).get("StringValue", "")
    return int(value) if value.isdecimal() and len(value) <= MOST_DIGITS else 0


def entries(messages: Sequence[Message], **more: int) -> list[Any]:
    """Returns the `Entries` of a batch operation on received messages. `more` is added to each entry."""
    return [{"Id": str(n), "ReceiptHandle": m.receipt_handle, **more} for n, m in enumerate(messages)]


def batches(items: Iterable[T], size: int = MAX_BATCH) -> Iterator[list[T]]:
    """Yields the items in lists of `size`, the last of which may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
