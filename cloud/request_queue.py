import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from cloud.clients import SQSClient
from cloud.errors import CloudError, calling

T = TypeVar("T")
MAX_BATCH = 10  # messages per call: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html


@dataclass(frozen=True)
class Message:
    body: str
    """An image-id, unless something else sent to the queue: whoever reads it has to check."""
    receipt_handle: str
    receives: int
    """How often the message has been received, including this time (SQS's ApproximateReceiveCount)."""


@dataclass(frozen=True)
class QueueCounts:
    """SQS's own counts. They are approximate: each may lag behind by up to a minute."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def backlog(self) -> int:
        return self.visible + self.in_flight + self.delayed


class RequestQueue:
    """Messages whose body is an image-id, and nothing else."""

    def __init__(self, sqs: SQSClient, name: str) -> None:
        self.sqs, self.name = sqs, name
        self._urls: dict[str, str] = {}

    def send(self, bodies: Iterable[str]) -> None:
        """One call for each 10. CloudError when a message is refused, also after one more try."""
        for batch in batches(bodies):
            self._retry_refused(
                "send_message_batch",
                [{"Id": str(n), "MessageBody": body} for n, body in enumerate(batch)],
            )

    def receive(self, most: int, wait_seconds: int) -> list[Message]:
        """A long poll: up to `most` (at most 10) messages, as soon as there is one."""
        return self._receive(self.url, most, wait_seconds)

    def delete(self, messages: Sequence[Message]) -> None:
        for batch in batches(messages):
            self._retry_refused("delete_message_batch", entries(batch))

    def extend(self, messages: Sequence[Message], seconds: int) -> None:
        """Makes their visibility timeout end `seconds` from now. One that is gone already is no error."""
        for batch in batches(messages):
            with calling(f"extend messages of {self.name}"):
                self.sqs.change_message_visibility_batch(
                    QueueUrl=self.url, Entries=entries(batch, VisibilityTimeout=seconds)
                )

    def give_back(self, messages: Sequence[Message]) -> None:
        """Makes them visible to other workers at once."""
        self.extend(messages, 0)

    def counts(self) -> QueueCounts:
        return self._counts(self.url)

    def dead_letters(self) -> list[Message]:
        """Up to 10 messages that were received too often; they stay hidden for a while, then come again."""
        url = self._dead_letter_url()
        return self._receive(url, MAX_BATCH, 0) if url and self._counts(url).visible else []

    def delete_dead_letters(self, messages: Sequence[Message]) -> None:
        if messages and (url := self._dead_letter_url()):
            self._retry_refused("delete_message_batch", entries(messages), url)

    def check(self) -> None:
        """CloudError when the queue cannot be reached."""
        self.counts()

    @property
    def url(self) -> str:
        return self._url(self.name)

    def _url(self, name: str) -> str:
        if name not in self._urls:
            with calling(f"find the queue {name}"):
                self._urls[name] = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return self._urls[name]

    def _dead_letter_url(self) -> str | None:
        with calling(f"read the redrive policy of {self.name}"):
            attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
        policy = json.loads(attributes.get("Attributes", {}).get("RedrivePolicy", "{}"))
        return self._url(policy["deadLetterTargetArn"].rpartition(":")[2]) if policy else None

    def _counts(self, url: str) -> QueueCounts:
        names: list[Any] = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
        with calling(f"count the messages of {self.name}"):
            found = self.sqs.get_queue_attributes(
                QueueUrl=url,
                AttributeNames=names,
            )["Attributes"]
        return QueueCounts(*(int(found[name]) for name in names))

    def _receive(self, url: str, most: int, wait_seconds: int) -> list[Message]:
        with calling(f"receive from {self.name}"):
            reply = self.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [
            Message(m["Body"], m["ReceiptHandle"], int(m["Attributes"]["ApproximateReceiveCount"]))
            for m in reply.get("Messages", [])
        ]

    def _retry_refused(self, operation: str, batch: list[dict[str, Any]], url: str = "") -> None:
        """A batch call may refuse some of its entries while the call itself succeeds."""
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


def entries(messages: Sequence[Message], **more: int) -> list[Any]:
    return [{"Id": str(n), "ReceiptHandle": m.receipt_handle, **more} for n, m in enumerate(messages)]


def batches(items: Iterable[T], size: int = MAX_BATCH) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
