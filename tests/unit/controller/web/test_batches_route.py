import csv
import io

import pytest

from controller.app import create_app
from tests.support.batch_work import SOURCE, photos, work_off
from tests.support.threads import join_threads


@pytest.fixture
def services(make, aws, settings):
    from cloud.batches.store import queue_name
    from cloud.provision import make_queue

    make_queue(aws.sqs, queue_name(settings.request_queue))
    aws.s3.create_bucket(Bucket=SOURCE)
    return make(batch_sources=(f"s3://{SOURCE}/cats/",))


@pytest.fixture
def client(services):
    return create_app(services).test_client()


def ask(client, **more):
    asked = {"source": f"s3://{SOURCE}/cats/", **more}
    reply = client.post("/batches", json=asked)
    join_threads("list-batch")
    return reply


def finish(services, answer=None):
    batches = services.batches
    work_off(batches.store, batches.queue, **({"answer": answer} if answer else {}))
    for watched in batches.watch._known.values():
        watched.forget()
    batches.keeper.look()


def test_a_batch_goes_from_asked_to_finished(client, services, aws):
    photos(aws.s3, "cats/1.jpg", "cats/2.jpg", "cats/notes.txt")
    reply = ask(client, name="My cats")
    assert reply.status_code == 202
    url = reply.headers["Location"]
    assert url == f"/batches/{reply.json['batch_id']}"
    finish(services)
    answer = client.get(url).json
    assert (answer["status"], answer["complete"], answer["images"], answer["classified"]) == (
        "finished",
        True,
        2,
        2,
    )
    assert answer["labels"] == [{"label": "tabby", "count": 2}]
    assert answer["message"] == "All 2 images are answered."
    rows = list(csv.reader(io.StringIO(client.get(f"{url}?format=csv").text)))
    assert rows[0][:6] == ["key", "status", "label", "confidence", "label_2", "confidence_2"]
    assert [row[:3] for row in rows[1:]] == [[f"cats/{n}.jpg", "classified", "tabby"] for n in (1, 2)]
