import csv
import io
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from cloud.batches.batch import Batch
from cloud.batches.store import BatchStore
from cloud.clock import now
from cloud.failure_code import FailureCode
from controller.app import create_app
from controller.batches.retry import failed_positions
from controller.batches.rows import Outcome
from controller.web import batch_parquet
from controller.web.wait_limits import MOST_TABLES, MOST_TABLES_OF_CLIENT
from tests.support.batch_work import SOURCE, failure, photos, slices_in, work_off
from tests.support.threads import join_threads
from tests.support.web_client import BROWSER

CATS = f"s3://{SOURCE}/cats/"
TOKENS = "alice:alice-0123456789abcdef,bob:bob-0123456789abcdef"


@pytest.fixture
def services(make, batch_queue):
    return make(batch_sources=(CATS,))


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def ask(client):
    def ask(headers=None, client=client, **more):
        reply = client.post("/batches", json={"source": CATS, **more}, headers=headers)
        join_threads("list-batch")
        return reply

    return ask


@pytest.fixture
def finish(services):
    """A worker's round, and then the keeper's."""

    def finish(**how):
        batches = services.batches
        work_off(batches.store, batches.queue, **how)
        for watched in batches.watch._known.values():
            watched.forget()
        batches.keeper.look()

    return finish


def url_of(reply):
    assert reply.status_code == 202, reply.text
    return reply.headers["Location"]


def message(reply):
    return reply.json["error"]["message"]


def responses(client, path):
    """Returns what the document says of a GET."""
    return client.get("/openapi.json").json["paths"][path]["get"]["responses"]


def table(text):
    return list(csv.reader(io.StringIO(text)))


def test_a_batch_goes_from_asked_to_finished(ask, client, finish, aws):
    photos(aws.s3, "cats/1.jpg", "cats/2.jpg", "cats/notes.txt")
    reply = ask(name="My cats")
    assert url_of(reply) == f"/batches/{reply.json['batch_id']}"
    before = client.get(url_of(reply)).json
    assert (before["status"], before["complete"], before["images"]) == ("running", False, 2)
    assert before["message"] == "2 images wait for the first instance to take them."
    finish()
    after = client.get(url_of(reply)).json
    assert (after["status"], after["complete"], after["classified"]) == ("finished", True, 2)
    assert after["labels"] == [{"label": "tabby", "count": 2}]
    assert after["message"] == "All 2 images are answered."
    assert after["sample"][0]["image"] == f"{url_of(reply)}/images?key=cats%2F1.jpg"
    assert after["dollars"]["so_far"] > 0


def test_while_it_runs_the_newest_results_are_shown(ask, client, services, batch_queue, aws):
    photos(aws.s3, *[f"cats/{n:02}.jpg" for n in range(12)])
    url = url_of(ask())
    first, second = slices_in(batch_queue)
    batch_queue.send([first.model_dump_json()])
    work_off(services.batches.store, batch_queue, failure(FailureCode.BROKEN))
    services.batches.watch.of(first.batch_id).forget()
    found = client.get(url).json
    assert (found["answered"], found["failed"], found["listed"]) == (10, 10, True)
    assert [(one["code"], one["count"]) for one in found["failures"]] == [("broken", 10)]
    assert found["images_per_second"] > 0
    assert found["seconds_left"] > 0
    assert found["message"].startswith("10 of 12 images are answered")
    assert second.positions == [10, 11]


@pytest.mark.parametrize(
    ("prefix", "others", "says"),
    [
        ("cats/none/", (), f"There is nothing under s3://{SOURCE}/cats/none/."),
        ("cats/", ("cats/a.txt", "cats/b.txt"), "Of 2 objects under"),
    ],
)
def test_a_batch_without_images_says_why(ask, client, finish, aws, prefix, others, says):
    photos(aws.s3, *others)
    url = url_of(ask(source=f"s3://{SOURCE}/{prefix}"))
    finish()
    found = client.get(url).json
    assert (found["status"], found["images"]) == ("finished", 0)
    assert found["message"].startswith(says)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"source": "http://lab"}, "source is 'http://lab', but it should be s3://bucket/prefix."),
        ({"top_k": 0}, "top_k is '0', but it should be a whole number from 1 to 20."),
        ({"limit": "many"}, "limit is 'many', but"),
        ({"budget": "-1"}, "budget is '-1', but it should be a number of dollars"),
        ({"deadline": "yesterday"}, "deadline is 'yesterday', but it should be a time in the future"),
        ({"deadline": f"in {'9' * 99} days"}, "deadline is 'in 9999"),
        ({"deadline": "2020-01-01T00:00Z"}, "deadline is '2020-01-01T00:00Z', but"),
        ({"spot": "maybe"}, "spot is 'maybe', but it should be true or false."),
        ({"colour": "red"}, "'colour' is not a field of a batch; its fields are source, name,"),
        ({"deadline": "9999-12-31T23:59:59-14:00"}, "deadline is '9999-12-31T23:59:59-14:00', but"),
        ({"budget": 1e308}, "budget is '1e+308', but it should be a number of dollars"),
        ({"limit": 10**12}, "limit is '1000000000000', but"),
        ({"suffixes": [".jpg"] * 101}, "suffixes is "),
        ({"source": CATS + "x" * 1024}, "source is "),
        ({"source": CATS + "雪" * 400}, "source is "),
    ],
)
def test_each_field_that_is_wrong_is_named(ask, asked, says):
    reply = ask(**asked)
    assert reply.status_code == 400
    assert message(reply).startswith(says)


@pytest.mark.parametrize("asked", [{"suffixes": ["\ud800"]}, {"\ud800": 1}])
def test_half_a_character_is_refused(client, services, asked):
    body = json.dumps({"source": CATS, **asked})
    assert client.post("/batches", data=body, content_type="application/json").status_code == 400
    assert services.batches.store.open() == []


def test_all_wrong_fields_are_named_at_once(ask):
    told = message(ask(top_k=0, limit=0))
    assert "top_k" in told
    assert "limit" in told


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b""])
def test_what_is_no_object_of_json_is_refused(client, body):
    reply = client.post("/batches", data=body, content_type="application/json")
    assert reply.status_code == 400


@pytest.mark.parametrize("body", ["[" * 50_000, '{"source": ' + "[" * 900 + "]" * 900 + "}"])
def test_json_that_is_nested_too_deeply_is_refused(client, body):
    reply = client.post("/batches", data=body, content_type="application/json")
    assert (reply.status_code, reply.json["error"]["code"]) == (400, "bad_batch")


def test_a_body_without_its_type_is_refused_with_what_would_be_right(client):
    reply = client.post("/batches", data="{}", content_type="text/plain")
    assert "Content-Type: application/json" in message(reply)


def test_json_that_is_sent_as_a_form_gets_the_header_that_is_missing(client):
    """`curl -d '{"source": …}' …/batches`"""
    form = "application/x-www-form-urlencoded"
    reply = client.post("/batches", data='{"source": "s3://photos/"}', content_type=form)
    assert reply.status_code == 400
    assert message(reply) == "This JSON came as a form. Add the header 'Content-Type: application/json'."


def test_a_field_of_a_form_without_a_name_is_refused(client):
    form = b"--x\r\nContent-Disposition: form-data\r\n\r\nphotos\r\n--x--\r\n"
    reply = client.post("/batches", data=form, content_type="multipart/form-data; boundary=x")
    assert reply.status_code == 400
    assert "'' is not a field of a batch" in message(reply)


def test_a_body_that_is_too_large_is_not_read(client):
    reply = client.post("/batches", json={"source": CATS, "name": "x" * 200_000})
    assert message(reply).startswith("This is too long")


@pytest.mark.parametrize("source", [f"s3://{SOURCE}/dogs/", f"s3://{SOURCE}", "s3://other/cats/"])
def test_only_the_sources_of_the_setting_are_read(ask, source):
    reply = ask(source=source)
    assert reply.status_code == 403
    assert "BATCH_SOURCES" in message(reply)


def test_without_sources_there_are_no_batches_and_no_calls(make, aws, on_call):
    client = create_app(make()).test_client()
    called = []
    for operation in ("ListObjectsV2", "PutObject", "GetObject"):
        on_call(aws.s3, operation, called.append)
    for reply in (
        client.post("/batches", json={"source": CATS}),
        client.get("/batches"),
        client.get(f"/batches/{'0' * 32}"),
        client.post(f"/batches/{'0' * 32}/cancel"),
    ):
        assert reply.status_code == 404
        assert "BATCH_SOURCES" in message(reply)
    assert client.application.extensions["services"].batches.loads() == ()
    assert called == []


def test_a_guess_costs_no_call(ask, client, aws, on_call):
    ask()
    called = []
    on_call(aws.s3, "GetObject", called.append)
    on_call(aws.s3, "ListObjectsV2", called.append)
    for address in ("", "/events", "/images?key=a", "?format=csv"):
        assert client.get(f"/batches/{'0' * 32}{address}").status_code == 404
    assert called == []


def test_the_same_key_is_the_same_batch(ask, aws):
    photos(aws.s3, "cats/1.jpg")
    key = {"Idempotency-Key": "k1"}
    first, again = ask(headers=key, deadline="30m"), ask(headers=key, deadline="30m")
    assert first.json["batch_id"] == again.json["batch_id"]
    other = ask(headers=key, deadline="31m")
    assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_key_whose_process_died_before_the_batch_was_written_is_taken_up(ask, aws, services):
    key = {"Idempotency-Key": "k1"}
    store = services.batches.store
    put, store.put = store.put, lambda batch: (_ for _ in ()).throw(SystemExit)
    with pytest.raises(SystemExit):
        ask(headers=key)
    store.put = put
    assert ask(headers=key).status_code == 202


def test_a_form_in_a_browser_leads_to_the_page_of_the_batch(client, services):
    fields = {
        "source": CATS,
        "name": "",
        "budget": "$2",
        "deadline": "in 30 minutes",
        "suffixes": [".jpg, .png", ".GIF"],
    }
    reply = client.post("/batches", data=fields, headers=BROWSER)
    join_threads("list-batch")
    assert reply.status_code == 303
    batch: Batch = services.batches.store.get(reply.headers["Location"].rpartition("/")[2])
    assert (batch.budget, batch.suffixes) == (2.0, (".jpg", ".png", ".gif"))
    assert 1700 < (batch.deadline - now()).total_seconds() <= 1800


def test_another_site_cannot_ask_for_a_batch(ask):
    assert ask(headers={"Origin": "https://evil.example"}).status_code == 403


def test_batches_need_a_token_where_there_are_some_and_everybody_sees_his_own(make, batch_queue, ask):
    client = create_app(make(batch_sources=(CATS,), api_tokens=SecretStr(TOKENS))).test_client()
    assert client.post("/batches", json={"source": CATS}).status_code == 401
    made = {}
    for name in ("alice", "bob"):
        headers = {"Authorization": f"Bearer {name}-0123456789abcdef"}
        made[name] = ask(client=client, headers=headers).json["batch_id"]
        (shown,) = client.get("/batches", headers=headers).json["batches"]
        assert (shown["batch_id"], shown["open"]) == (made[name], True)
    assert made["alice"] != made["bob"]


def test_the_newest_batch_is_the_first_of_the_list(ask, client, monkeypatch):
    made = []
    for second in range(3):
        at = datetime(2027, 1, 15, 8, 0, second, tzinfo=UTC)
        monkeypatch.setattr("cloud.image_id.now", lambda at=at: at)
        made.append(ask().json["batch_id"])
    assert [one["batch_id"] for one in client.get("/batches").json["batches"]] == made[::-1]


def test_however_many_batches_others_have_a_list_reads_each_of_them_at_most_once(
    make, batch_queue, aws, on_call, monkeypatch
):
    monkeypatch.setattr("controller.batches.batches.MOST_LOOKED_AT", 5)
    services = make(batch_sources=(CATS,))
    for n in range(8):
        at = f"{n:08x}"
        batch = Batch(batch_id=f"{n:06x}{at}{n:018x}", source=CATS, client="bob" if n == 3 else "alice")
        services.batches.store.put(batch)
    newest, reads = services.batches.newest, []
    on_call(aws.s3, "GetObject", reads.append)
    assert [len(newest(name)) for name in ("bob", "alice", "bob")] == [1, 4, 1]
    assert len(reads) == 5


def test_the_table_has_a_row_for_each_key(ask, client, finish, aws):
    odd = 'cats/=1+1, "a"\n雪.jpg'
    photos(aws.s3, "cats/1.jpg", odd)
    url = url_of(ask(name="Meine Katzen/1", top_k=2))
    waiting = table(client.get(url, headers={"Accept": "text/csv"}).text)
    assert waiting[0] == [
        "key", "status", "label", "confidence", "label_2", "confidence_2", "error_code", "error_message",
    ]  # fmt: skip
    assert waiting[1] == ["cats/1.jpg", "waiting", "", "", "", "", "", ""]
    finish()
    reply = client.get(url, headers={"Accept": "text/csv"})
    assert reply.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Meine%20Katzen%2F1.csv"
    assert table(reply.text)[1:] == [
        [key, "classified", "tabby", "0.75", "tiger cat", "0.125", "", ""] for key in ("cats/1.jpg", odd)
    ]


def test_keys_and_labels_are_no_formulas(ask, client, finish, aws):
    photos(aws.s3, "cats/a,=cmd|x.jpg")
    url = url_of(ask())
    finish()
    assert table(client.get(f"{url}?format=csv").text)[1][0] == "cats/a,'=cmd|x.jpg"


@pytest.mark.parametrize("accept", ["application/jsonl", "application/x-ndjson"])
def test_json_lines_have_the_keys_exactly_as_they_are(ask, client, finish, aws, accept):
    photos(aws.s3, "cats/a,=cmd|x\n.jpg")
    url = url_of(ask())
    finish(answer=failure(FailureCode.BROKEN))
    reply = client.get(url, headers={"Accept": accept})
    assert reply.mimetype == "application/jsonl"
    (row,) = [json.loads(line) for line in reply.text.splitlines()]
    assert (row["key"], row["status"], row["error"]["code"]) == ("cats/a,=cmd|x\n.jpg", "failed", "broken")


def test_parquet_has_the_same_rows(ask, client, finish, aws):
    parquet = pytest.importorskip("pyarrow.parquet")
    photos(aws.s3, "cats/1.jpg", "cats/2.jpg")
    url = url_of(ask())
    finish()
    found = parquet.read_table(io.BytesIO(client.get(f"{url}?format=parquet").data)).to_pylist()
    assert [(row["key"], row["label"]) for row in found] == [("cats/1.jpg", "tabby"), ("cats/2.jpg", "tabby")]
    assert found[0]["predictions"][1] == {"label": "tiger cat", "confidence": 0.125}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_head_of_a_table_costs_no_reading_of_rows(ask, client, finish, aws, monkeypatch, form):
    pytest.importorskip("pyarrow")
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    finish()
    read = []
    monkeypatch.setattr(BatchStore, "rows", lambda store, one: read.append(one) or [])
    assert client.head(f"{url}?format={form}").status_code == 200
    assert not read


def test_parquet_is_written_as_it_is_taken(monkeypatch):
    """It takes no disk, and nothing more is read for a client that hangs up."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(batch_parquet, "ROW_GROUP", 2)
    read = []

    def outcomes():
        for number in range(7):
            read.append(number)
            yield Outcome(0, number, f"{number}.jpg", None)

    chunks = batch_parquet.as_parquet(outcomes())
    first = next(chunks)
    assert len(read) == 2
    found = parquet.read_table(io.BytesIO(first + b"".join(chunks))).to_pylist()
    assert [(row["key"], row["status"]) for row in found] == [(f"{n}.jpg", "waiting") for n in range(7)]


def test_few_tables_are_written_at_once(ask, client, finish, aws):
    """Each takes some 20 to 50 MB, for as long as its client reads it."""
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    finish()
    clients = [{"REMOTE_ADDR": f"203.0.113.{number % 4}"} for number in range(MOST_TABLES)]
    held = [client.get(f"{url}?format=csv", environ_overrides=one) for one in clients]
    assert [reply.status_code for reply in held] == [200] * MOST_TABLES
    refused = client.get(f"{url}?format=jsonl")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "tables" in message(refused)
    assert client.get(url).status_code == 200
    held.pop().close()
    assert len(client.get(f"{url}?format=jsonl").text.splitlines()) == 1


def test_a_client_who_reads_many_tables_keeps_nobody_else_from_theirs(ask, client, finish, aws):
    photos(aws.s3, "cats/1.jpg")
    url = f"{url_of(ask())}?format=csv"
    finish()
    replies = [client.get(url) for _ in range(MOST_TABLES)]
    assert [reply.status_code for reply in replies].count(200) == MOST_TABLES_OF_CLIENT
    assert client.get(url, environ_overrides={"REMOTE_ADDR": "203.0.113.1"}).status_code == 200


def test_without_pyarrow_the_other_forms_are_named(ask, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reply = client.get(f"{url_of(ask())}?format=parquet")
    assert reply.status_code == 406
    assert "pip install pyarrow" in reply.text


def test_an_unknown_form_is_refused(ask, client):
    reply = client.get(f"{url_of(ask())}?format=xml")
    assert "json, csv, jsonl or parquet" in message(reply)


def test_a_batch_can_be_cancelled_once(ask, client, finish, aws, batch_queue):
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    reply = client.post(f"{url}/cancel")
    assert (reply.status_code, reply.json["status"]) == (202, "cancelled")
    slices_in(batch_queue)
    finish()
    after = client.post(f"{url}/cancel")
    assert (after.status_code, after.json["complete"]) == (200, True)
    assert after.json["failures"][0]["code"] == "cancelled"
    assert table(client.get(f"{url}?format=csv").text)[1][1:3] == ["failed", ""]
    assert client.post(f"{url}/retry").status_code == 409


def test_a_finished_batch_cannot_be_cancelled(ask, client, finish):
    url = url_of(ask())
    finish()
    assert client.post(f"{url}/cancel").status_code == 409


def test_what_failed_can_be_tried_again(ask, client, finish, aws):
    photos(aws.s3, "cats/1.jpg", "cats/2.jpg")
    url = url_of(ask())
    assert client.post(f"{url}/retry").status_code == 409
    finish(answer=failure(FailureCode.STORAGE_FAILED))
    reply = client.post(f"{url}/retry")
    assert (reply.status_code, reply.json["round"], reply.json["status"]) == (202, 2, "running")
    finish()
    found = client.get(url).json
    assert (found["classified"], found["failed"], found["complete"]) == (2, 0, True)
    assert client.post(f"{url}/retry").status_code == 409


def test_few_batches_are_tried_again_at_once(ask, client, finish, aws, monkeypatch):
    """All rows are read of each manifest that has a failure, which takes what a table takes."""
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    finish(answer=failure(FailureCode.STORAGE_FAILED))
    reading, most = [], []

    def slowly(*given):
        reading.append(given)
        most.append(len(reading))
        time.sleep(0.1)
        reading.pop()
        return failed_positions(*given)

    monkeypatch.setattr("controller.batches.retry.failed_positions", slowly)
    replies = at_once(
        3 * MOST_TABLES_OF_CLIENT, lambda: client.application.test_client().post(f"{url}/retry")
    )
    assert max(most) <= MOST_TABLES_OF_CLIENT
    found = Counter(reply.status_code for reply in replies)
    assert found[202] == 1
    assert found[503] > 0
    assert set(found) <= {202, 409, 503}


def at_once(count, call):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


def test_a_browser_that_cancels_comes_back_to_the_page(ask, client):
    url = url_of(ask())
    reply = client.post(f"{url}/cancel", headers=BROWSER)
    assert (reply.status_code, reply.headers["Location"]) == (303, url)


def test_pictures_are_shown_as_they_lie_in_their_bucket(ask, client, aws, jpeg):
    photos(aws.s3, "cats/schnee 雪+%.jpg", body=jpeg)
    url = url_of(ask())
    reply = client.get(f"{url}/images", query_string={"key": "cats/schnee 雪+%.jpg"})
    assert (reply.data, reply.mimetype) == (jpeg, "image/jpeg")
    assert reply.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "key", ["dogs/1.jpg", "cats/secret.txt", "cats/none.jpg", "", f"cats/{'雪' * 400}.jpg"]
)
def test_nothing_else_of_the_bucket_is_shown(ask, client, aws, key):
    photos(aws.s3, "dogs/1.jpg", "cats/secret.txt")
    assert client.get(f"{url_of(ask())}/images", query_string={"key": key}).status_code == 404


@pytest.mark.parametrize("suffixes", ["", ".env", ".jpg"])
@pytest.mark.parametrize("body", [b"", b"TOKEN=secret", b"<svg/>", b"<html>"])
def test_what_is_no_picture_is_not_shown_whatever_the_suffixes_are(ask, client, aws, suffixes, body):
    """Or whoever may ask for a batch could read all that lies beside the pictures."""
    photos(aws.s3, "cats/a.env", "cats/a.jpg", body=body)
    url = url_of(ask(suffixes=suffixes))
    for key in ("cats/a.env", "cats/a.jpg"):
        assert client.get(f"{url}/images", query_string={"key": key}).status_code == 404


def test_a_source_that_is_not_allowed_any_more_is_neither_shown_nor_tried_again(ask, make, aws, jpeg):
    photos(aws.s3, "cats/1.jpg", body=jpeg)
    url = url_of(ask())
    later = create_app(make(batch_sources=("s3://elsewhere/",))).test_client()
    assert later.get(f"{url}/images", query_string={"key": "cats/1.jpg"}).status_code == 403
    assert "403" in responses(later, "/batches/{batch_id}/images")
    assert later.post(f"{url}/retry").status_code == 403
    assert later.get(url).status_code == 200, "its results stay"


def test_events_end_with_the_complete_batch(ask, client, finish, services, aws):
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    stream = client.get(f"{url}/events")
    assert stream.mimetype == "text/event-stream"
    events = stream.response
    assert next(events) == b"retry: 1000\n\n"
    assert next(events).startswith(b"event: progress\ndata: {")
    finish()
    name, data = next(events).decode().strip().split("\n")
    assert name == "event: complete"
    assert json.loads(data.removeprefix("data: "))["classified"] == 1
    assert list(events) == []
    stream.close()


def test_too_many_streams_are_refused(ask, client, services):
    url = url_of(ask())
    held = [services.wait_limits.of_stream() for _ in range(services.settings.web_threads)]
    for one in held:
        one.__enter__()
    reply = client.get(f"{url}/events")
    for one in held:
        one.__exit__(None, None, None)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")


def test_there_are_at_most_so_many_open_batches(ask, client, monkeypatch):
    monkeypatch.setattr("controller.batches.batches.MOST_OPEN", 2)
    first, second = ask().json["batch_id"], ask().json["batch_id"]
    third = ask()
    assert (third.status_code, third.json["error"]["code"]) == (429, "too_many_batches")
    assert third.headers["Retry-After"] == "60"
    assert {one["batch_id"] for one in client.get("/batches").json["batches"]} == {first, second}
    assert client.post(f"/batches/{first}/cancel").status_code == 202
    client.application.extensions["services"].batches.keeper.look()
    assert ask().status_code == 202


def test_a_client_with_many_open_batches_keeps_nobody_else_from_asking_for_one(
    make, batch_queue, ask, monkeypatch
):
    monkeypatch.setattr("controller.batches.batches.MOST_OPEN_OF_CLIENT", 2)
    client = create_app(make(batch_sources=(CATS,), api_tokens=SecretStr(TOKENS))).test_client()
    alice, bob = ({"Authorization": f"Bearer {name}-0123456789abcdef"} for name in ("alice", "bob"))
    asked = [ask(who, client=client).status_code for who in (bob, alice, alice, alice, bob)]
    assert asked == [202, 202, 202, 429, 202]


def test_no_more_batches_are_open_than_may_be_though_they_are_asked_for_at_once(
    ask, client, services, monkeypatch
):
    monkeypatch.setattr("controller.batches.batches.MOST_OPEN", 2)
    look = services.batches.store.open

    def slowly():
        found = look()
        time.sleep(0.1)
        return found

    monkeypatch.setattr(services.batches.store, "open", slowly)
    replies = at_once(6, lambda: ask(client=client.application.test_client()))
    assert Counter(reply.status_code for reply in replies) == {202: 2, 429: 4}


def test_a_batch_that_is_tried_again_counts_as_open(ask, client, finish, aws, monkeypatch):
    photos(aws.s3, "cats/1.jpg")
    url = url_of(ask())
    finish(answer=failure(FailureCode.ARCHIVED))
    monkeypatch.setattr("controller.batches.batches.MOST_OPEN", 1)
    other = url_of(ask())
    assert client.post(f"{url}/retry").status_code == 429
    finish()
    assert client.post(f"{url}/retry").status_code == 202
    assert client.post(f"{other}/retry").status_code == 409
    assert ask().status_code == 429


def test_a_repeated_order_is_answered_though_there_is_no_room_for_another(ask, monkeypatch):
    monkeypatch.setattr("controller.batches.batches.MOST_OPEN", 1)
    first, again = (ask({"Idempotency-Key": "one"}) for _ in range(2))
    assert (again.status_code, again.json["batch_id"]) == (202, first.json["batch_id"])
    assert ask({"Idempotency-Key": "two"}).status_code == 429


def test_an_empty_key_is_no_picture_even_where_all_keys_are_allowed(make, batch_queue, ask):
    client = create_app(make(batch_sources=(f"s3://{SOURCE}",))).test_client()
    url = url_of(ask(client=client, source=f"s3://{SOURCE}", suffixes=[]))
    assert client.get(f"{url}/images?key=").status_code == 404
