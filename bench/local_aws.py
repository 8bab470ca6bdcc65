"""Measures what a call costs the local AWS, beside moto as shipped.

    .venv/bin/python -m bench.local_aws

For each call, it prints the milliseconds of the server's processor, and those until the client has the
answer. Each server has a process of its own. The calls come one after the other from one client of boto3. The
bucket has 5,000 objects.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import boto3
from botocore.exceptions import ClientError

from bench.arguments import parser_of
from bench.queue import KEY, local_sqs, moto_as_shipped

CALLS, ROUNDS, STORED = 200, 3, 5000
PHOTO, ANSWER = os.urandom(100_000), json.dumps({"label": "tabby", "score": 0.75}).encode()
SERVERS = {"local AWS": local_sqs, "moto as shipped": moto_as_shipped}

Calls = dict[str, Callable[[str], Any]]


def serve(start: Callable[[], str], connection: Any) -> None:
    connection.send(start())
    while True:
        connection.recv()
        connection.send(time.process_time())


@contextmanager
def served(start: Callable[[], str]) -> Iterator[tuple[str, Callable[[], float]]]:
    """Runs a server in a process of its own during the block.

    Yields its address, and a function that returns its processor time in seconds.
    """
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(start, there), daemon=True)
    process.start()

    def processor_time() -> float:
        here.send(None)
        seconds: float = here.recv()
        return seconds

    try:
        yield here.recv(), processor_time
    finally:
        process.terminate()
        process.join()


def calls_to(url: str) -> Calls:
    """Fills a bucket and a queue, and returns the calls to measure, by their names in the table.

    Each call needs a text that it was not given before.
    """
    keys = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret}
    s3, sqs = (
        boto3.client(kind, endpoint_url=url, region_name="us-east-1", **keys) for kind in ("s3", "sqs")
    )
    s3.create_bucket(Bucket="photos")
    for number in range(STORED):
        s3.put_object(Bucket="photos", Key=f"stored/{number:06}", Body=ANSWER)
    queue = sqs.create_queue(QueueName="requests")["QueueUrl"]
    received: list[dict[str, Any]] = []

    def get_what_is_not_there(name: str) -> None:
        try:
            s3.get_object(Bucket="photos", Key=f"missing/{name}")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise

    def receive(_: str) -> None:
        received.extend(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"])

    def delete_received(_: str) -> None:
        batch = [received.pop() for _ in range(10)]
        entries = [{"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in batch]
        assert not sqs.delete_message_batch(QueueUrl=queue, Entries=entries).get("Failed")

    def list_after(after: int) -> dict[str, Any]:
        return s3.list_objects_v2(Bucket="photos", Prefix="stored/", StartAfter=f"stored/{after:06}")

    return {
        "PutObject, 100 KB": lambda name: s3.put_object(Bucket="photos", Key=f"photo/{name}", Body=PHOTO),
        "PutObject, JSON, IfNoneMatch": lambda name: s3.put_object(
            Bucket="photos",
            Key=f"answer/{name}",
            Body=ANSWER,
            IfNoneMatch="*",
            ContentType="application/json",
        ),
        "GetObject, 100 KB": lambda name: s3.get_object(Bucket="photos", Key=f"photo/{name}")["Body"].read(),
        "GetObject, JSON": lambda name: s3.get_object(Bucket="photos", Key=f"answer/{name}")["Body"].read(),
        "GetObject, no such key": get_what_is_not_there,
        "HeadObject": lambda name: s3.head_object(Bucket="photos", Key=f"photo/{name}"),
        "ListObjectsV2, 20 keys": lambda _: list_after(STORED - 21),
        "ListObjectsV2, 1,000 keys": lambda _: list_after(0),
        "DeleteObject": lambda name: s3.delete_object(Bucket="photos", Key=f"photo/{name}"),
        "SendMessageBatch of 10": lambda _: sqs.send_message_batch(
            QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": f"{n:040}"} for n in range(10)]
        ),
        "GetQueueAttributes": lambda _: sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"]),
        "ReceiveMessage of 10": receive,
        "DeleteMessageBatch of 10": delete_received,
    }


def measured(calls: Calls, processor_time: Callable[[], float]) -> dict[str, tuple[float, float]]:
    """Returns the milliseconds of the server's processor and of waiting, for each call.

    They are those of the round in which the processor took the least.
    """
    figures: dict[str, tuple[float, float]] = {}
    for round_ in range(ROUNDS):
        for title, call in calls.items():
            number = CALLS // 10 if "1,000" in title or "of 10" in title else CALLS  # slow ones, fewer
            spent, began = processor_time(), time.perf_counter()
            for index in range(number):
                call(f"{round_}/{index}")
            waited, spent = time.perf_counter() - began, processor_time() - spent
            this = spent / number * 1000, waited / number * 1000
            figures[title] = min(figures.get(title, this), this)
    return figures


def main() -> None:
    parser_of(__doc__).parse_args()
    print(f"{os.cpu_count()} cores, {CALLS} calls a round, the least of {ROUNDS} rounds\n")
    print(f"{'ms of processor, of waiting':<32}" + "".join(f"{name:>20}" for name in SERVERS))
    found = []
    for start in SERVERS.values():
        with served(start) as (url, processor_time):
            found.append(measured(calls_to(url), processor_time))
    for title in found[0]:
        print(f"{title:<32}" + "".join(f"{one[title][0]:>12.2f}{one[title][1]:>8.2f}" for one in found))


if __name__ == "__main__":
    main()
