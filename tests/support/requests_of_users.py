"""What users send to a running system, and what they read of it."""

import json

import requests

from bench.photos import PHOTOS
from local.driver import System


def photos() -> list[tuple[str, bytes]]:
    return [(f"{name}.jpg", data) for name, (data, _) in PHOTOS.items()]


def events(reply: requests.Response) -> list[tuple[str, str, dict]]:
    """Yields (name, id, data) of each event, until the stream ends."""
    found, fields = [], {}
    for line in reply.iter_lines(decode_unicode=True):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields.keys() >= {"event", "data"}:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
            fields = {}
    return found


def fail(system: System, image_id: str) -> None:
    """As a controller does that cannot launch workers."""
    error = {"code": "no_workers", "message": "No instance came."}
    body = json.dumps({"image_id": image_id, "status": "failed", "error": error})
    system.client("s3").put_object(Bucket="output-predictions", Key=image_id, Body=body.encode())
