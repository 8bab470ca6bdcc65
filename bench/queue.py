"""Measures how many messages a second pass through the local SQS and through moto's as shipped, in turns.

    .venv/bin/python -m bench.queue

Each is a server in a process of its own. Four threads send, and four receive and delete, in batches of 10.
The time is measured from the first send to the last delete. A round is over when no message comes any more.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from bench.arguments import parser_of
from local.access import AccessKey
from local.endpoint import Endpoint

ROUNDS, MESSAGES, BATCH = 3, 1000, 10
KEY = AccessKey("bench", "bench")


def local_sqs() -> str:
    endpoint = Endpoint(key=KEY)
    endpoint.start()
    return endpoint.url


def moto_as_shipped() -> str:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of each call
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def serve(start: Callable[[], str], connection: Any) -> None:
    connection.send(start())
    connection.recv()


@contextmanager
def served(start: Callable[[], str]) -> Iterator[str]:
    """Runs a server in a process of its own during the block, and yields its address."""
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(start, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def send(sqs: Any, queue: str, bodies: list[str]) -> None:
    for start in range(0, len(bodies), BATCH):
        entries = [{"Id": body, "MessageBody": body} for body in bodies[start : start + BATCH]]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)


def take(sqs: Any, queue: str) -> tuple[list[str], float]:
    """Receives and deletes messages until none comes any more.

    Returns their bodies, and the time at which the last of them was deleted.
    """
    bodies: list[str] = []
    ended = 0.0
    receive = {"QueueUrl": queue, "MaxNumberOfMessages": BATCH, "WaitTimeSeconds": 3}
    while messages := sqs.receive_message(**receive).get("Messages"):
        entries = [{"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in messages]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
        ended = time.perf_counter()
        bodies += [message["Body"] for message in messages]
    return bodies, ended


def messages_a_second(url: str) -> tuple[float, int]:
    """Returns how many different messages passed a second, and how many passed."""
    keys = {"aws_access_key_id": KEY.id, "aws_secret_access_key": KEY.secret}
    clients = [boto3.client("sqs", endpoint_url=url, region_name="us-east-1", **keys) for _ in range(8)]
    queue = clients[0].create_queue(QueueName="requests")["QueueUrl"]
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        bodies = [str(number) for number in range(MESSAGES)]
        sending = [pool.submit(send, clients[part], queue, bodies[part::4]) for part in range(4)]
        taking = [pool.submit(take, client, queue) for client in clients[4:]]
    for future in sending:
        future.result()
    taken = [future.result() for future in taking]
    passed = len({body for bodies, _ in taken for body in bodies})
    return passed / (max(ended for _, ended in taken) - began), passed


def main() -> None:
    parser_of(__doc__).parse_args()
    print(f"{os.cpu_count()} cores, {MESSAGES} messages in each round\n")
    print(f"{'round':>5}  {'server':<18}{'passed':>8}{'messages/s':>12}")
    for number in range(1, ROUNDS + 1):
        for start in (local_sqs, moto_as_shipped):
            with served(start) as url:
                rate, passed = messages_a_second(url)
            print(f"{number:>5}  {start.__name__.replace('_', ' '):<18}{passed:>8}{rate:>12.0f}", flush=True)


if __name__ == "__main__":
    main()
