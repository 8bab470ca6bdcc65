"""Stands in for S3 and SQS in front of one worker, and delays each reply, in a process of its own.

The local AWS takes more processor time for an image than the worker itself, so that on a small machine, it
would be what is measured. This server knows only the calls of a worker, and answers them from memory. It
never holds up one reply for another. `python -m bench.stand_in PORT DELAY FOLDER MESSAGES` serves the files
of the folder as so many images.

GET /_record returns what it has seen. After POST /_watch with a process id, it notes the processor time and
memory of that process at its first receive and at the last delete.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import psutil

from cloud.image_id import ImageId, new_request_id

JITTER = 0.3  # a reply takes the delay, more or less by up to this part of it
SQS_JSON = "application/x-amz-json-1.0"


class StandIn:
    def __init__(self, port: int, delay: float, photos: list[bytes], messages: int) -> None:
        self.port, self.delay = port, delay
        request_id = new_request_id()
        image_ids = [ImageId.make(request_id, n, "photo.jpg") for n in range(messages)]
        self.photos = {image_id: photos[n % len(photos)] for n, image_id in enumerate(image_ids)}
        self.numbers = {image_id: n % len(photos) for n, image_id in enumerate(image_ids)}
        self.queue: list[str] = list(image_ids)
        self.random = Random(0)
        self.calls: dict[str, int] = {}
        self.deleted: list[tuple[float, int]] = []
        self.labels: dict[int, str] = {}
        self.watched: psutil.Process | None = None
        self.seen: dict[str, Any] = {}

    async def serve(self) -> None:
        server = await asyncio.start_server(self.connection, "127.0.0.1", self.port, limit=2**20)
        await server.serve_forever()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, _ = head.split(" ", 2)
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n"))}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                writer.write(await self.reply(method, unquote(path), headers, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        if path.startswith("/_"):
            return response(json.dumps(self.control(path, body)).encode())
        await asyncio.sleep(self.delay * self.random.uniform(1 - JITTER, 1 + JITTER))
        if "x-amz-target" in headers:
            operation = headers["x-amz-target"].partition(".")[2]
            self.count(operation)
            return response(json.dumps(await self.sqs(operation, body)).encode(), SQS_JSON)
        bucket, _, key = path[1:].partition("?")[0].partition("/")
        self.count(f"{method} {bucket}")
        if method == "GET":
            return self.get(bucket, key)
        if bucket == "output":
            self.put(key, body)
        return response(b"", "application/xml")

    def get(self, bucket: str, key: str) -> bytes:
        return response(self.photos[ImageId(key)], "image/jpeg")

    def put(self, key: str, body: bytes) -> None:
        """Takes what the worker writes into the output bucket."""
        self.labels[self.numbers[ImageId(key)]] = json.loads(body)["label"]

    def count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    async def sqs(self, operation: str, body: bytes) -> dict[str, Any]:
        if operation == "GetQueueUrl":
            return {"QueueUrl": f"http://127.0.0.1:{self.port}/1/queue"}
        asked = json.loads(body)
        if operation == "ReceiveMessage":
            return await self.receive(asked["WaitTimeSeconds"], asked["MaxNumberOfMessages"])
        entries = asked["Entries"]
        if operation == "DeleteMessageBatch":
            self.done(len(entries))
        return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}

    def done(self, images: int) -> None:
        """Notes that the messages of so many images are deleted."""
        self.deleted.append((time.time(), images))
        if sum(count for _, count in self.deleted) == len(self.photos):
            self.seen["end"] = self.usage()

    async def receive(self, wait_seconds: float, most: int) -> dict[str, Any]:
        self.seen.setdefault("start", self.usage())
        if not self.queue:
            await asyncio.sleep(wait_seconds)
        bodies, self.queue = self.queue[:most], self.queue[most:]
        attributes = {"ApproximateReceiveCount": "1"}
        messages = [{"MessageId": b, "ReceiptHandle": b, "Body": b, "Attributes": attributes} for b in bodies]
        return {"Messages": messages} if messages else {}

    def usage(self) -> dict[str, float]:
        """Returns the time, and what the watched process uses: processor seconds and memory in MB.

        The processor seconds are also those of its children, whose memory is that of the `decoders`.
        """
        if self.watched is None:
            return {"at": time.time()}
        cpu = self.watched.cpu_times()
        seconds = cpu.user + cpu.system + cpu.children_user + cpu.children_system
        usage = {"at": time.time(), "cpu": seconds, **memory_of(self.watched.pid)}
        usage["decoders"] = 0
        for child in self.watched.children():
            cpu = child.cpu_times()
            usage["cpu"] += cpu.user + cpu.system
            usage["decoders"] += memory_of(child.pid)["resident"]
        return usage

    def control(self, path: str, body: bytes) -> Any:
        if path == "/_watch":
            self.watched = psutil.Process(int(body))
        return {
            "messages": len(self.photos),
            "calls": self.calls,
            "deleted": self.deleted,
            "labels": self.labels,
            "own_cpu": time.process_time(),
            **self.seen,
        }


def memory_of(pid: int) -> dict[str, float]:
    """Returns the memory of a process now and at its peak, in MB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    memory = {line.partition(":")[0]: line.split()[1] for line in status if line.startswith("Vm")}
    return {"resident": int(memory["VmRSS"]) / 1024, "peak": int(memory["VmHWM"]) / 1024}


def response(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    date = "Thu, 01 Jan 2026 00:00:00 GMT"
    head = f'Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nETag: "1"\r\nLast-Modified: {date}\r\n'
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def main(kind: type[StandIn]) -> None:
    port, delay, folder, images = sys.argv[1:]
    photos = [file.read_bytes() for file in sorted(Path(folder).iterdir())]
    asyncio.run(kind(int(port), float(delay), photos, int(images)).serve())


if __name__ == "__main__":
    main(StandIn)
