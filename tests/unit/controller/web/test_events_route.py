"""GET /requests/<id>/events; what a stream says is for test_streams.py."""

import json

import pytest

from controller.web.wait_limits import WaitLimits
from tests.support.web_client import post


def parse(text: str) -> list[tuple[str, str, dict]]:
    """(name, id, data) of each event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.split("\n"))
        if "event" in fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


@pytest.fixture
def posted(idle, photo, work):
    """A request of two answers, on a process that no longer watches it."""
    made = post(idle, photo("犬.png"), photo("notes.txt", b"milk")).json
    work()
    return made


def test_answers_come_as_events_whoever_watches_the_request(start, posted):
    response = start().test_client().get(f"{posted['url']}/events")
    assert response.status_code == 200
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"] == posted["request_id"]
    assert response.text.startswith("retry: ")
    first, second, done = parse(response.text)
    assert (first[2]["filename"], first[2]["label"]) == ("犬.png", "tabby")
    assert (second[0], second[1], second[2]["error"]["code"]) == ("image", "0-1", "not_an_image")
    assert (done[0], done[2]["state"], done[2]["complete"]) == ("state", "done", True)


@pytest.mark.parametrize(
    ("last", "numbers"), [("0", [1]), ("0-1", []), ("", [0, 1]), ("what?", [0, 1]), ("7-999999999", [0, 1])]
)
def test_who_comes_again_gets_the_rest(start, posted, last, numbers):
    response = start().test_client().get(f"{posted['url']}/events", headers={"Last-Event-ID": last})
    images = [data["image_id"] for name, _, data in parse(response.text) if name == "image"]
    assert images == [posted["images"][n]["image_id"] for n in numbers]


def test_a_head_request_holds_no_room(start, posted):
    app = start()
    app.extensions["services"].__dict__["wait_limits"] = WaitLimits(2)
    client = app.test_client()
    for _ in range(3):
        response = client.head(f"{posted['url']}/events", buffered=True)
        assert (response.status_code, response.mimetype, response.data) == (200, "text/event-stream", b"")
    assert not app.extensions["services"].follower._shared


@pytest.mark.parametrize("request_id", ["0" * 32, "1", "A" * 32])
def test_an_unknown_request_is_404_in_json_for_an_event_source(start, request_id):
    client = start().test_client()
    response = client.get(f"/requests/{request_id}/events", headers={"Accept": "text/event-stream"})
    assert (response.status_code, response.mimetype) == (404, "application/json")
    assert response.json["error"]["message"] == f"There is no request '{request_id}'."
    assert client.post(f"/requests/{request_id}/events").status_code == 405


def test_one_stream_too_many_is_told_so_and_there_is_room_again_once_one_has_gone(idle, photo):
    services = idle.application.extensions["services"]
    services.polling.request_timeout = 20
    services.__dict__["wait_limits"] = WaitLimits(4)  # for two streams
    url = post(idle, photo(), headers={"Prefer": "respond-async"}).json["url"]
    streams = [idle.get(f"{url}/events") for _ in range(2)]
    for stream in streams:
        assert next(iter(stream.response)).startswith(b"retry")
    refused = idle.get(f"{url}/events", headers={"Accept": "text/event-stream"})
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json["error"]["message"].startswith("Too many streams are open.")
    assert f"at {url}," in refused.json["error"]["message"]
    streams.pop().close()
    again = idle.get(f"{url}/events")
    assert again.status_code == 200
    for stream in (again, *streams):
        stream.close()


def test_when_many_wait_already_the_next_upload_is_told_at_once_where_its_answer_will_be(
    idle,
    photo,
    work,
):
    services = idle.application.extensions["services"]
    services.polling.request_timeout = 60
    services.__dict__["wait_limits"] = waits = WaitLimits(1)
    with waits.of_request():
        response = post(idle, photo("cat.png"))
    assert response.status_code == 202
    assert response.headers["Location"] == response.json["url"]
    work()
    assert post(idle, photo("notes.txt", b"milk")).status_code == 200
