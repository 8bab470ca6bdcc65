import gc
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import quote

import pytest

from cloud.errors import CloudError
from cloud.image_id import new_request_id
from cloud.prediction import Prediction
from controller.dashboard.latest_state import LatestState
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.web_client import BROWSER, page, post

JSON, TEXT = {"Accept": "application/json"}, {"Accept": "text/plain"}
UNKNOWN = new_request_id()


@pytest.fixture
def app(start, work):
    """With workers that answer at once: everything is a tabby."""
    app = start()
    app.extensions["services"].polling.wake_autoscaler = work
    return app


@pytest.fixture
def client(app):
    return app.test_client()


# Forms of the answer


def test_json_has_an_entry_for_each_file_in_upload_order(client, photo):
    response = post(client, photo("b.png"), photo("a.png"), headers=JSON)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json["complete"]
    first, second = response.json["images"]
    assert (first["filename"], second["filename"]) == ("b.png", "a.png")
    assert first["image_id"] == f"{response.json['request_id']}/0000-b.png"
    assert (first["status"], first["label"], first["confidence"]) == ("classified", "tabby", 0.75)
    assert first["predictions"] == [
        {"label": "tabby", "confidence": 0.75},
        {"label": "tiger cat", "confidence": 0.125},
    ]
    assert (first["error"], first["model"]) == (None, "resnet18")


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}])
@pytest.mark.parametrize("field", ["image_file", "file", "image", "whatever"])
def test_json_is_the_answer_without_preference_whatever_the_field_is_called(client, photo, field, headers):
    response = post(client, photo(), field=field, headers=headers)
    assert response.json["images"][0]["label"] == "tabby"


def test_files_in_fields_of_several_names_all_count(client, photo):
    data = {"image_file": photo("a.png"), "file": [photo("b.png"), photo("c.png")], "comment": "no file"}
    response = client.post("/", data=data)
    assert [i["filename"] for i in response.json["images"]] == ["a.png", "b.png", "c.png"]


def test_json_keeps_the_letters_as_they_are(client, photo):
    assert "犬.png" in post(client, photo("犬.png"), headers=JSON).text


def test_a_browser_gets_the_page_with_the_pictures_beside_their_labels(client, photo):
    response = post(client, photo("cat.png"), photo("犬 <b>.png"), headers=BROWSER)
    assert response.status_code == 200
    text = page(response)
    assert "cat.png" in text
    assert "tabby" in text
    assert "犬 <b>.png" in text
    assert "<b>" not in response.text, "a name is no markup"
    assert "/images/0000-cat.png" in text


def test_text_is_a_line_of_stem_and_label_for_each_image(client, photo):
    response = post(client, photo("cat.png"), photo("é.b.png"), headers=TEXT)
    assert response.content_type == "text/plain; charset=utf-8"
    assert response.text == "cat:tabby\né.b:tabby\n"


def test_clients_that_post_myfile_get_bare_labels(client, photo):
    response = post(client, photo("cat.png"), photo("dog.png"), field="myfile")
    assert (response.mimetype, response.text) == ("text/plain", "tabby\ntabby\n")


def test_clients_that_post_inputfile_get_lines_of_stem_and_label(client, photo):
    response = post(client, photo("test_00.png"), field="inputFile", headers={"Accept": "*/*"})
    assert (response.mimetype, response.text) == ("text/plain", "test_00:tabby\n")


def test_caches_are_told_that_the_answer_depends_on_accept(client, photo):
    assert "Accept" in post(client, photo()).headers["Vary"]


# What is in a request


def test_a_file_that_is_no_image_has_its_reason_beside_the_others_labels(client, photo):
    notes = photo("notes.txt", b"milk, bread")
    response = post(client, photo("a.png"), notes, photo("b.png"), headers=JSON)
    assert response.status_code == 200
    assert [i["status"] for i in response.json["images"]] == ["classified", "failed", "classified"]
    error = response.json["images"][1]["error"]
    assert error["code"] == "not_an_image"
    assert error["message"] in page(
        post(client, photo("a.png"), photo("notes.txt", b"milk"), headers=BROWSER)
    )
    text = post(client, photo("notes.txt", b"milk, bread"), headers=TEXT).text
    assert text == f"notes:failed: {error['message']}\n"


def test_a_jpeg_is_a_jpeg_whatever_its_name(client, photo, jpeg):
    for name in ("cat.JPG", "cat.jpeg", "cat", "cat.txt"):
        response = post(client, photo(name, jpeg), headers=JSON)
        assert response.json["images"][0]["status"] == "classified"


def test_two_files_of_one_name_are_two_images(client, photo):
    images = post(client, photo("cat.png"), photo("cat.png")).json["images"]
    assert [i["filename"] for i in images] == ["cat.png", "cat.png"]
    assert len({i["image_id"] for i in images}) == 2
    assert [i["label"] for i in images] == ["tabby", "tabby"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("été.png", "été.png"),
        ("犬.png", "犬.png"),
        ("../../etc/passwd", "passwd"),
        (r"..\\..\\boot.ini", "boot.ini"),  # quoted, as RFC 7578 has it
        (r"C:\\photos\\cat.png", "cat.png"),
        ("a\x01\x7f\u202eb.png", "ab.png"),
        ("50% + 1&2?#.png", "50% + 1&2?#.png"),
        ("..", "unnamed"),
    ],
)
def test_names_keep_their_letters_and_lose_paths_and_control_characters(client, photo, given, kept):
    response = post(client, photo(given))
    assert [i["filename"] for i in response.json["images"]] == [kept]
    assert response.json["images"][0]["label"] == "tabby"
    quoted = quote(response.json["images"][0]["image_id"].partition("/")[2])
    assert client.get(f"{response.json['url']}/images/{quoted}").status_code == 200


def test_a_browser_that_sends_its_empty_second_input_along_sent_one_file(client, photo):
    response = post(client, photo("cat.png"), (BytesIO(b""), ""))
    assert [i["filename"] for i in response.json["images"]] == ["cat.png"]


# Waiting


def test_respond_async_is_answered_at_once_with_where_to_ask(idle, photo):
    response = post(idle, photo(), photo(), headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["Location"] == f"/requests/{response.json['request_id']}"
    assert response.headers["Preference-Applied"] == "respond-async"
    assert [i["status"] for i in response.json["images"]] == ["waiting", "waiting"]


def test_a_client_says_how_long_it_waits(start, photo, work):
    app = start()
    services = app.extensions["services"]
    response = post(app.test_client(), photo(), headers={"Prefer": "respond-async, wait=0"})
    assert (response.status_code, response.json["complete"]) == (202, False)
    assert response.headers["Location"] == f"/requests/{response.json['request_id']}"
    assert response.headers["Preference-Applied"] == "respond-async, wait=0"
    assert response.vary.as_set() == {"accept", "prefer"}
    services.polling.wake_autoscaler = work
    response = post(app.test_client(), photo(), headers={"Prefer": "respond-async, wait=60"})
    assert (response.status_code, response.json["complete"]) == (200, True)
    assert response.headers["Preference-Applied"] == "wait=5", "no longer than the service itself waits"


@pytest.mark.parametrize("same_process", [True, False])
def test_a_look_at_a_request_may_wait_for_its_end(start, photo, work, same_process):
    app = start()
    where = post(app.test_client(), photo(), headers={"Prefer": "respond-async"}).headers["Location"]
    client = (app if same_process else start()).test_client()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(client.get, where, headers={"Prefer": "wait=5, respond-async"})
        assert client.get(where, headers={"Prefer": "wait=0"}).json["complete"] is False
        work()
        assert looking.result(10).json["complete"] is True
    assert looking.result().headers["Preference-Applied"] == "wait=5"
    assert client.get(where, headers={"Prefer": "wait=soon"}).status_code == 200


def test_who_waited_too_long_gets_what_there_is_and_where_the_rest_will_be(idle, photo, work):
    response = post(idle, photo("cat.png"), photo("notes.txt", b"milk"))
    assert response.status_code == 202
    assert [i["status"] for i in response.json["images"]] == ["waiting", "failed"]
    where = response.headers["Location"]
    assert idle.get(where).json["complete"] is False
    work()
    later = idle.get(where)
    assert later.status_code == 200
    assert [i["status"] for i in later.json["images"]] == ["classified", "failed"]


def test_who_waited_too_long_is_told_so_in_each_form(idle, photo):
    response = post(idle, photo("cat.png"), headers=TEXT)
    assert response.text == f"cat:waiting: see {response.headers['Location']}\n"
    response = post(idle, photo("cat.png"), headers=BROWSER)
    assert response.headers["Location"] in page(response)


def test_who_waits_is_told_why_and_who_has_all_answers_is_not(idle, start, photo, work):
    response = post(idle, photo(), headers={"Prefer": "respond-async"})
    wait = response.json["wait"]
    assert (wait["state"], wait["estimate_seconds"]) == ("queued", None)
    assert wait["message"] == "In the queue; what it needs is being worked out."
    assert wait["message"] in page(idle.get(response.json["url"], headers=BROWSER))
    services = idle.application.extensions["services"]
    services.autoscaler.reconcile()
    services.forecast.latest = LatestState(services.forecast.latest.shared)
    assert idle.get(response.json["url"]).json["wait"]["state"] == "launching"
    work()
    assert start().test_client().get(response.json["url"]).json["wait"] is None


def test_any_process_knows_a_request_also_after_a_restart(client, photo, start):
    posted = post(client, photo("b.png"), photo("notes.txt", b"milk"), photo("a.png")).json
    other = start().test_client()
    assert other.get(posted["url"]).json == posted
    assert client.get(posted["url"]).json == posted
    text = page(other.get(posted["url"], headers=BROWSER))
    assert "tabby" in text
    assert "notes.txt" in text
    assert other.get(posted["url"], headers=TEXT).text.startswith("b:tabby\nnotes:failed: ")


def test_a_picture_is_shown_as_it_was_uploaded_and_as_nothing_else(client, photo, png):
    posted = post(client, photo("犬.html")).json
    response = client.get(f"{posted['url']}/images/{quote('0000-犬.html')}")
    assert (response.data, response.mimetype) == (png, "image/png")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]


def test_what_else_is_in_the_bucket_is_no_picture(idle, photo, inputs):
    posted = post(idle, photo(), headers={"Prefer": "respond-async"}).json
    inputs.write(f"{posted['request_id']}/notes.txt", b"x")
    assert idle.get(f"{posted['url']}/images/notes.txt").status_code == 404
    assert len(idle.get(posted["url"]).json["images"]) == 1
    assert idle.get(f"/requests/open/images/{posted['request_id']}").status_code == 404


# Refusals

FORMS = [
    (JSON, lambda r: r.json["error"]["message"]),
    ({}, lambda r: r.json["error"]["message"]),
    (TEXT, lambda r: r.text if r.mimetype == "text/plain" else pytest.fail(r.mimetype)),
    (BROWSER, page),
]


LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def collected():
    """Werkzeug leaves files open when it gives up in the middle of a form; here is where they are closed."""
    yield
    gc.collect()


@pytest.mark.parametrize(("headers", "read"), FORMS)
class TestRefusedInTheFormOfTheClient:
    def test_no_file(self, client, headers, read):
        for response in (
            client.post("/", headers=headers),
            client.post("/", data={"comment": "hello"}, headers=headers),
            client.post("/", data={"image_file": (BytesIO(b""), "")}, headers=headers),
            client.post("/", json={"image": "?"}, headers=headers),
        ):
            assert response.status_code == 400
            assert "No file came with the request" in read(response)

    def test_too_many_files(self, client, photo, headers, read):
        response = post(client, *[photo() for _ in range(6)], headers=headers)
        assert response.status_code == 413
        assert "6 files are too many: at most 5 in one request" in read(response)

    @LEAVES_FILES_OPEN
    def test_far_too_many_files(self, collected, client, photo, headers, read):
        response = post(client, *[photo() for _ in range(200)], headers=headers)
        assert response.status_code == 413
        assert "at most 1 MB and 5 files in one request" in read(response)

    @LEAVES_FILES_OPEN
    def test_a_body_over_the_limit(self, collected, client, photo, png, headers, read):
        response = post(client, photo("cat.png", png + bytes(1_100_000)), headers=headers)
        assert response.status_code == 413
        assert "The upload is too large: at most 1 MB" in read(response)

    def test_a_wrong_method(self, client, headers, read):
        for method, path in (("DELETE", "/"), ("PATCH", "/"), ("POST", f"/requests/{UNKNOWN}")):
            response = client.open(path, method=method, headers=headers)
            assert response.status_code == 405
            assert "GET" in response.headers["Allow"]
            assert f"{path} does not take {method}, only " in read(response)

    def test_an_unknown_address(self, client, headers, read):
        response = client.get("/no/such/page", headers=headers)
        assert response.status_code == 404
        assert "There is nothing at /no/such/page." in read(response)

    def test_an_unknown_request(self, client, headers, read):
        for request_id in (UNKNOWN, "1", "..", UNKNOWN.upper()):
            response = client.get(f"/requests/{request_id}", headers=headers)
            assert response.status_code == 404
            assert "no request" in read(response) or request_id == ".."

    def test_an_unknown_picture(self, client, photo, headers, read):
        posted = post(client, photo()).json
        for name in ("0001-dog.png", f"../open/{posted['request_id']}", "%2e%2e/x"):
            response = client.get(f"{posted['url']}/images/{name}", headers=headers)
            assert response.status_code == 404
            read(response)
        assert client.get("/requests/x/images/0000-cat.png", headers=headers).status_code == 404

    def test_an_aws_that_does_not_answer(self, client, photo, aws, on_call, headers, read):
        def refuse(params):
            raise refusal("SlowDown", "PutObject")

        on_call(aws.s3, "PutObject", refuse)
        response = post(client, photo(), headers=headers)
        assert response.status_code == 503
        assert "SlowDown" in read(response)

    def test_a_bug(self, app, photo, headers, read, caplog):
        def fail(*_):
            raise ValueError("something secret")

        app.extensions["services"].submissions.submit = fail
        response = post(app.test_client(), photo(), headers=headers)
        assert response.status_code == 500
        assert "secret" not in read(response)
        assert "something secret" in caplog.text


def test_a_refusal_in_json_has_a_code_for_programs(client, photo):
    assert client.post("/").json["error"]["code"] == "no_file"
    assert client.get("/nowhere").json["error"]["code"] == "not_found"
    assert client.delete("/").json["error"]["code"] == "method_not_allowed"


def test_a_line_client_whose_upload_is_refused_gets_a_line(client, photo):
    response = post(client, *[photo() for _ in range(6)], field="myfile")
    assert (response.status_code, response.mimetype) == (413, "text/plain")
    assert response.text == "6 files are too many: at most 5 in one request.\n"


def test_nothing_of_a_refused_request_stays(client, photo, inputs, queue):
    post(client, *[photo() for _ in range(6)])
    assert list(inputs.keys("")) == []
    assert queue.counts().backlog == 0


# Pages and probes


def test_the_form_is_there_and_says_its_limits(client):
    text = page(client.get("/"))
    assert 'name="image_file"' in text
    assert "multiple" in text
    assert "5 pictures" in text


def test_a_head_request_is_answered_without_a_body(client):
    response = client.head("/")
    assert (response.status_code, response.data) == (200, b"")


def test_healthz_is_alive_whatever_aws_says(client, aws, on_call):
    def refuse(params):
        raise CloudError("AWS is down")

    for service in aws:
        on_call(service, "*", refuse)
    assert (client.get("/healthz").status_code, client.get("/healthz").json) == (200, {"status": "alive"})


def test_readyz_is_ready_when_buckets_and_queue_can_be_reached(client):
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (200, {"status": "ready", "problems": {}})


def test_readyz_names_a_bucket_that_is_missing_and_the_log_its_name(client, aws, caplog):
    aws.s3.delete_bucket(Bucket="test-input")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json["status"] == "unavailable"
    assert list(response.json["problems"]) == ["input bucket"]
    assert response.json["problems"]["input bucket"].startswith("AWS says ")
    assert "test-input" not in response.text
    assert "could not reach the bucket test-input" in caplog.text


def test_readyz_names_everything_that_is_missing(start, aws, queue):
    aws.s3.delete_bucket(Bucket="test-output")
    aws.sqs.delete_queue(QueueUrl=queue.url)
    response = start().test_client().get("/readyz")
    assert response.status_code == 503
    assert list(response.json["problems"]) == ["output bucket", "request queue"]


def test_the_fleet_is_shown_as_json(client, photo):
    post(client, photo())
    client.application.extensions["services"].autoscaler.reconcile()
    shown = client.get("/fleet").json
    assert shown["queue"] == {"visible": 0, "in_flight": 0, "delayed": 0}
    assert (shown["max_instances"], shown["instances"]) == (5, [])
    assert shown["decisions"][0]["why"]


def test_every_response_keeps_other_sites_out_and_addresses_in(client, photo):
    posted = post(client, photo(), headers=BROWSER)
    for response in (client.get("/"), posted, client.get("/nowhere", headers=BROWSER)):
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"


# Cancel and retry; what they do is for test_cancel_retry.py


def test_a_request_is_cancelled_and_tried_again_by_programs(idle, photo, work, inputs):
    url = post(idle, photo(), photo("notes.txt", b"milk"), headers={"Prefer": "respond-async"}).json["url"]
    response = idle.post(f"{url}/cancel")
    assert response.status_code == 200
    assert [i["error"]["code"] for i in response.json["images"]] == ["cancelled", "not_an_image"]
    response = idle.post(f"{url}/retry")
    assert response.status_code == 409
    assert response.json["error"]["code"] == "conflict"
    assert response.json["error"]["message"].endswith(".")


def test_what_failed_is_sent_again_for_programs_with_where_to_ask(idle, photo, outputs):
    idle.application.extensions["services"].polling.request_timeout = 30  # else it may end without the answer
    posted = post(idle, photo(), headers={"Prefer": "respond-async"}).json
    failed = Prediction.failed(posted["images"][0]["image_id"], "no_workers", "Nobody came.")
    outputs.put_prediction(failed)
    response = eventually(lambda: (r := idle.post(f"{posted['url']}/retry")).status_code == 202 and r)
    assert response.headers["Location"] == posted["url"]
    assert response.json["images"][0]["status"] == "waiting"


def test_a_form_in_a_browser_is_led_back_to_the_page_of_the_request(idle, photo):
    url = post(idle, photo(), headers={"Prefer": "respond-async"}).json["url"]
    response = idle.post(f"{url}/cancel", headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, url)
    refused = idle.post(f"{url}/retry", headers=BROWSER)
    assert refused.status_code == 409
    assert "again" in page(refused)


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_an_unknown_request_can_be_neither_cancelled_nor_tried_again(client, action):
    for request_id in (UNKNOWN, "1"):
        response = client.post(f"/requests/{request_id}/{action}")
        assert (response.status_code, response.json["error"]["code"]) == (404, "not_found")
    assert client.get(f"/requests/{UNKNOWN}/{action}").status_code == 405
