"""A batch, in a running system: images that lie in a bucket become a table."""

import csv
import io
from typing import Any

import pytest
import requests

from bench.photos import PHOTOS
from local.driver import System, eventually

COPIES = 25


@pytest.fixture
def keys(system: System) -> set[str]:
    """What lies in a folder of the bucket of `make run`: photos, and one file that is none."""
    s3, found = system.client("s3"), {"zoo/not a photo.jpg": b"no picture"}
    for name, (data, _) in PHOTOS.items():
        found |= {f"zoo/{name}/{n}.jpg": data for n in range(COPIES)}
    for key, body in found.items():
        s3.put_object(Bucket="photos", Key=key, Body=body)
    s3.put_object(Bucket="photos", Key="zoo/notes.txt", Body=b"not listed")
    return set(found)


def test_a_batch_has_a_row_for_each_image_and_leaves_no_instance(system: System, keys: set[str]):
    eventually(lambda: not system.active(), 60)
    asked = requests.post(f"{system.url}batches", json={"source": "s3://photos/zoo/"}, timeout=10)
    assert asked.status_code == 202, asked.text
    place = system.url.rstrip("/") + asked.headers["Location"]
    eventually(system.active, 10)

    def finished() -> Any:
        found = requests.get(place, timeout=10).json()
        return found if found["complete"] else None

    found = eventually(finished, 60, every=0.5)
    assert (found["images"], found["classified"], found["failed"]) == (len(keys), len(keys) - 1, 1)
    table = requests.get(place, headers={"Accept": "text/csv"}, timeout=10)
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(table.text))}
    assert rows.keys() == keys
    assert rows["zoo/not a photo.jpg"]["status"] == "failed"
    for name, (_, right) in PHOTOS.items():
        assert {rows[f"zoo/{name}/{n}.jpg"]["label"] for n in range(COPIES)} <= right
    eventually(lambda: not system.active(), 10)


def test_a_batch_may_ask_for_spot_instances_whatever_market_says(system: System):
    eventually(lambda: not system.active(), 60)
    s3 = system.client("s3")
    s3.put_object(Bucket="photos", Key="spotted/1.jpg", Body=next(iter(PHOTOS.values()))[0])
    asked = requests.post(
        f"{system.url}batches", json={"source": "s3://photos/spotted/", "spot": True}, timeout=10
    )
    place = system.url.rstrip("/") + asked.headers["Location"]
    [instance] = eventually(system.active, 10)
    assert instance["InstanceLifecycle"] == "spot"
    eventually(lambda: requests.get(place, timeout=10).json()["complete"], 60, every=0.5)
