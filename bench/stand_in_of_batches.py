"""Stands in for S3 and SQS in front of one worker, as bench/stand_in.py does, but with one batch of images.

`python -m bench.stand_in_of_batches PORT DELAY FOLDER IMAGES` serves the files of the folder as a batch of so
many images, in slices of SLICE_IMAGES. No image is in the request queue.
"""

import asyncio
import json
from pathlib import PurePosixPath
from typing import Any

from bench.stand_in import StandIn, main, response
from cloud.batches.batch import SLICE_IMAGES, Batch, ListedImage, Manifest
from cloud.batches.slice import MANIFEST_IMAGES, Slice
from cloud.batches.store import queue_name
from cloud.image_id import new_request_id

BUCKET = "lab"
BATCH_QUEUE = queue_name("image-requests")
MISSING = b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"


class StandInOfBatches(StandIn):
    def __init__(self, port: int, delay: float, photos: list[bytes], images: int) -> None:
        super().__init__(port, delay, photos, images)
        self.files = photos
        batch = Batch(batch_id=new_request_id(), source=f"s3://{BUCKET}/")
        self.stored = {f"batches/{batch.batch_id}/batch.json": batch.model_dump_json()}
        self.slices: list[Slice] = []
        for number, first in enumerate(range(0, images, MANIFEST_IMAGES)):
            listed = tuple(self.listed(n) for n in range(first, min(first + MANIFEST_IMAGES, images)))
            key = f"batches/{batch.batch_id}/manifests/{number:05d}.json"
            self.stored[key] = Manifest(images=listed).model_dump_json()
            for start in range(0, len(listed), SLICE_IMAGES):
                positions = range(start, min(start + SLICE_IMAGES, len(listed)))
                self.slices.append(Slice.of(batch.batch_id, number, positions))
        self.sizes = {part.model_dump_json(): len(part) for part in self.slices}

    def listed(self, number: int) -> ListedImage:
        return ListedImage(key=f"{number:07}.jpg", etag='"1"', size=len(self.file(number)))

    def file(self, number: int) -> bytes:
        return self.files[number % len(self.files)]

    def get(self, bucket: str, key: str) -> bytes:
        if bucket == BUCKET:
            return response(self.file(number_in(key)), "image/jpeg")
        if key in self.stored:
            return response(self.stored[key].encode())
        return response(MISSING, "application/xml", "404 Not Found")

    def put(self, key: str, body: bytes) -> None:
        for line in body.splitlines():
            row = json.loads(line)
            self.labels[number_in(row["key"]) % len(self.files)] = row["label"]

    async def sqs(self, operation: str, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        if operation == "GetQueueUrl":
            return {"QueueUrl": f"http://127.0.0.1:{self.port}/1/{asked['QueueName']}"}
        if operation == "ReceiveMessage":
            if PurePosixPath(asked["QueueUrl"]).name == BATCH_QUEUE and self.slices:
                return self.next_slice()
            self.seen.setdefault("start", self.usage())
            await asyncio.sleep(asked["WaitTimeSeconds"])
            return {}
        entries = asked["Entries"]
        if operation == "DeleteMessageBatch":
            self.done(sum(self.sizes[entry["ReceiptHandle"]] for entry in entries))
        return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}

    def next_slice(self) -> dict[str, Any]:
        self.seen.setdefault("start", self.usage())
        body = self.slices.pop(0).model_dump_json()
        attributes = {"ApproximateReceiveCount": "1"}
        return {
            "Messages": [{"MessageId": body, "ReceiptHandle": body, "Body": body, "Attributes": attributes}]
        }


def number_in(key: str) -> int:
    return int(key.removesuffix(".jpg"))


if __name__ == "__main__":
    main(StandInOfBatches)
