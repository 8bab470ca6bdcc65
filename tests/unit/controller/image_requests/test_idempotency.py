import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier, Event

import pytest
from werkzeug.http import unquote_header_value

from cloud.image_id import new_request_id, shard_and_time
from controller.image_requests.errors import RequestRefused
from controller.image_requests.idempotency import (
    PREFIX,
    TAKEN_OVER_AFTER,
    Claim,
    ClaimLost,
    IdempotencyKeys,
    object_name,
)
from controller.image_requests.journal import Journal
from controller.image_requests.request_ids import KEY_OBJECT
from controller.web.errors import STATUSES
from controller.web.uploads import read_files
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.conditional_writes import lost_reply
from tests.support.pictures import picture
from tests.support.submissions import bodies, file, recover, submit
from tests.support.submissions import uploads as uploads_of
from tests.support.web_client import post

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
NOW = KEY | {"Prefer": "respond-async"}


def cat(name: str = "cat.png", content: bytes = picture()):
    return BytesIO(content), name


def uploads(*names: str, content: bytes = picture()):
    request_id = new_request_id()
    return request_id, read_files(request_id, [file(name, content) for name in names], 5)


@pytest.fixture
def keys(inputs, state) -> IdempotencyKeys:
    return IdempotencyKeys(state)


@pytest.fixture
def claim(keys):
    def claim(*names: str, content: bytes = picture()) -> Claim | str:
        return keys.claim("idempotency/x", *uploads(*names, content=content))

    return claim


def requests_in(inputs) -> set[str]:
    return {key.partition("/")[0] for key in inputs.keys("")}


# The header


def name_of(header: str) -> str:
    """As the route reads the header."""
    return object_name(unquote_header_value(header), "anybody")


@pytest.mark.parametrize("key", ["a", "x" * 255, '"quoted"', "a,b;c=d", "!~"])
def test_a_key_is_visible_ascii(key):
    assert name_of(key).startswith(PREFIX)


@pytest.mark.parametrize("key", ["", '""', " ", "a b", "x" * 256, "é", "a\tb"])
def test_what_is_no_key_is_refused_before_anything_is_read(key):
    with pytest.raises(RequestRefused, match="visible ASCII") as refused:
        name_of(key)
    assert STATUSES[type(refused.value)] == 400


def test_quotes_do_not_count_and_a_client_does():
    assert name_of('"a"') == name_of("a") != name_of("b")
    assert object_name("a", client="one") != object_name("a", client="other")


# Claims


def test_the_first_one_claims_and_the_others_get_its_request(claim):
    first = claim("a.png", "b.png")
    first.accept()
    assert claim("a.png", "b.png") == first.request_id


@pytest.mark.parametrize(
    ("names", "content"),
    [(["a.png"], picture("JPEG")), (["b.png"], picture()), (["a.png", "a.png"], picture())],
)
@pytest.mark.parametrize("accepted", [True, False])
def test_a_key_of_other_files_is_refused(claim, names, content, accepted):
    first = claim("a.png")
    if accepted:
        first.accept()
    with pytest.raises(RequestRefused, match="other files") as refused:
        claim(*names, content=content)
    assert STATUSES[type(refused.value)] == 422


def test_of_many_at_once_one_claims(keys):
    together = Barrier(20)

    def one(_):
        request = uploads("a.png")
        together.wait()
        try:
            return keys.claim("idempotency/x", *request)
        except RequestRefused as refused:
            return STATUSES[type(refused)]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(20)))
    assert found.count(409) == 19


def test_an_upload_that_died_is_taken_over_as_the_same_request(claim, s3_clock):
    died = claim("a.png")
    s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() - 2
    with pytest.raises(RequestRefused, match="is being taken"):
        claim("a.png")
    s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() + 1
    taken = claim("a.png")
    assert taken.request_id == died.request_id
    taken.accept()
    assert claim("a.png") == died.request_id


@pytest.mark.parametrize("slow_first", [True, False])
def test_of_two_that_upload_the_same_request_one_is_accepted(claim, s3_clock, slow_first):
    slow = claim("a.png")
    s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() + 1
    quick = claim("a.png")
    first, last = (slow, quick) if slow_first else (quick, slow)
    first.accept()
    with pytest.raises(ClaimLost):
        last.accept()
    assert not last.release()
    assert claim("a.png") == slow.request_id


def test_a_failed_submission_frees_the_key_for_these_and_for_other_files(claim):
    failed = claim("a.png")
    assert failed.release()
    again = claim("a.png")
    assert isinstance(again, Claim)
    assert again.request_id == failed.request_id, "who saw it accepted for a moment still has its address"
    assert again.release()
    assert isinstance(claim("b.png"), Claim)


def test_a_slow_upload_whose_key_went_to_other_files_sends_nothing(claim, s3_clock):
    slow = claim("a.png")
    s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() + 1
    assert claim("a.png").release()
    claim("b.png").accept()
    with pytest.raises(ClaimLost):
        slow.accept()


def test_a_broken_object_frees_its_key(claim, state, caplog):
    state.write("idempotency/x", b"\x80")
    assert isinstance(claim("a.png"), Claim)
    assert "is broken" in caplog.text


def test_a_write_whose_reply_was_lost_is_still_ones_own(claim, aws):
    with lost_reply(aws.s3):
        first = claim("a.png")
        assert isinstance(first, Claim)
        first.accept()
    assert claim("a.png") == first.request_id


# Requests


def test_a_request_that_is_taken_over_makes_nobody_list_since_it_was_made(keys, make, aws, on_call):
    """The id of a failed POST may be days old when the client tries again."""
    controller, after = make(), []
    journal = controller.submissions.journal
    old = f"{journal.shard}{0x6B000000:08x}{'ab' * 9}"
    assert keys.claim("idempotency/x", old, uploads_of(old, "a.png")).release()
    on_call(aws.s3, "ListObjectsV2", lambda params: after.append(params.get("StartAfter", "")))
    claimed = keys.claim("idempotency/x", controller.request_ids.new(), uploads_of(old, "a.png"))
    watched = controller.submissions.submit(claimed.request_id, uploads_of(old, "a.png"), claimed)
    other = submit(controller, "b.png", "c.png")
    (alone,) = (marker for marker in journal.markers() if marker.name == old)
    assert set(journal.images(alone).waiting) == set(watched.image_ids)
    eventually(lambda: shard_and_time(other.request_id) in after)
    assert shard_and_time(old) not in after
    assert all(marker == alone or marker.after > shard_and_time(old) for marker in journal.markers())


@pytest.fixture
def app(start, work):
    app = start()
    app.extensions["services"].polling.wake_autoscaler = work
    return app


def test_the_same_key_is_the_same_request_in_any_process_and_form(app, start, inputs, outputs):
    first = post(app.test_client(), cat(), headers=KEY)
    written = len(list(outputs.keys("")))
    for client in (app.test_client(), start().test_client()):
        again = post(client, cat(), headers=KEY)
        assert (again.status_code, again.json) == (200, first.json)
        text = post(client, cat(), headers=KEY | {"Accept": "text/plain"})
        assert text.text == "cat:tabby\n"
        late = post(client, cat(), headers=NOW)
        assert (late.status_code, late.headers["Location"]) == (202, first.json["url"])
    assert requests_in(inputs) == {first.json["request_id"]}
    assert len(list(outputs.keys(""))) == written


def test_without_a_key_each_post_is_a_request(app, inputs):
    for _ in range(2):
        post(app.test_client(), cat())
    assert len(requests_in(inputs)) == 2


def test_a_repeated_post_waits_for_the_answer_of_the_first(start, work, queue):
    app, other = start(), start()
    first = post(app.test_client(), cat(), headers=NOW)
    assert queue.counts().backlog == 1
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(post, other.test_client(), cat(), headers=KEY)
        Event().wait(0.2)
        assert queue.counts().backlog == 1
        work()
        assert again.result(10).json["complete"]
    assert again.result().json["request_id"] == first.json["request_id"]


def test_two_strangers_with_the_same_key_have_two_requests(app, inputs):
    """Otherwise whoever guesses the key and the picture is given the address of the other's request."""
    client, found = app.test_client(), []
    for peer in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"):
        first, again = (
            post(client, cat(), headers=NOW, environ_overrides={"REMOTE_ADDR": peer}).json["request_id"]
            for _ in range(2)
        )
        assert first == again
        found.append(first)
    assert len(set(found)) == 4


def test_refusals(app, keys):
    client = app.test_client()
    assert post(client, cat(), headers={"Idempotency-Key": "a b"}).status_code == 400
    assert client.post("/", headers=KEY).status_code == 400
    keys.claim(object_name(KEY["Idempotency-Key"], "127.0.0.1"), *uploads("cat.png"))
    early = post(client, cat(), headers=KEY)
    assert (early.status_code, early.headers["Retry-After"]) == (409, "2")
    other = post(client, cat("dog.png"), headers=KEY)
    assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_key_reused")


def test_what_s3_did_not_take_is_taken_the_next_time(app, inputs, outputs, aws, on_call, state):
    client, failures = app.test_client(), []

    def refuse(params):
        if not failures and not params["Key"].startswith((PREFIX, KEY_OBJECT)):
            failures.append(1)
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    journal = Journal(state, inputs, outputs)
    assert post(client, cat(), headers=KEY).status_code == 503
    [marker] = journal.markers()
    again = post(client, cat(), headers=KEY)
    assert (again.status_code, again.json["images"][0]["label"]) == (200, "tabby")
    assert requests_in(inputs) == {again.json["request_id"]} == {marker.name}
    eventually(lambda: journal.markers() == [])


def test_what_s3_took_is_answered_though_the_client_never_comes_back(
    app, inputs, outputs, queue, aws, on_call, state
):
    def refuse(params):
        if params["Key"].endswith("dog.png"):
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    assert post(app.test_client(), cat(), cat("dog.png"), headers=KEY).status_code == 503
    recover(queue, outputs, Journal(state, inputs, outputs))
    assert bodies(queue) == list(inputs.keys("")) != []


def test_what_the_queue_did_not_take_is_sent_by_a_look_also_for_who_came_meanwhile(
    app, inputs, outputs, queue, work, aws, on_call, state
):
    client, meanwhile, journal = app.test_client(), [], Journal(state, inputs, outputs)

    def refuse(params):
        if not meanwhile:
            meanwhile.append(post(app.test_client(), cat(), headers=NOW))
            raise refusal("SlowDown", "SendMessageBatch")

    on_call(aws.sqs, "SendMessageBatch", refuse)
    assert post(client, cat(), headers=KEY).status_code == 503
    [accepted] = meanwhile
    assert accepted.status_code == 202
    assert [marker.name for marker in journal.markers()] == [accepted.json["request_id"]]
    recover(queue, outputs, journal)
    work()
    again = post(client, cat(), headers=KEY)
    assert (again.status_code, again.json["images"][0]["label"]) == (200, "tabby")
    assert again.json["request_id"] == accepted.json["request_id"]


def test_a_process_that_dies_in_its_upload_leaves_a_key_that_works(app, keys, inputs, s3_clock):
    dead = keys.claim(object_name(KEY["Idempotency-Key"], "127.0.0.1"), *uploads("cat.png"))
    client = app.test_client()
    assert post(client, cat(), headers=KEY).status_code == 409
    s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() + 1
    taken = post(client, cat(), headers=KEY)
    assert (taken.json["request_id"], taken.json["complete"]) == (dead.request_id, True)


def test_a_repeated_post_gets_the_answer_that_its_first_attempt_has_stored(start, aws, state, on_call):
    """As when the first attempt fails or dies between the answer and the mark that all is accepted."""
    written = []

    def refuse_the_mark(params):
        if params["Bucket"] == state.name and params["Key"].startswith(PREFIX):
            written.append(params["Key"])
            if len(written) == 2:
                raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse_the_mark)
    client, text = start().test_client(), lambda: (BytesIO(b"no picture"), "notes.txt")
    assert post(client, text(), headers=KEY).status_code == 503
    time.sleep(0.01)  # the next attempt has another time
    again = post(client, text(), headers=KEY)
    assert again.status_code == 200
    elsewhere = start().test_client().get(again.json["url"], headers={"Accept": "application/json"})
    assert again.json["images"] == elsewhere.json["images"]


def test_who_waits_for_a_submission_that_fails_is_told_to_come_again(start, keys, inputs, aws, on_call):
    app = start()
    claim = keys.claim(object_name(KEY["Idempotency-Key"], "127.0.0.1"), *uploads("cat.png"))
    app.extensions["services"].submissions._store(uploads("cat.png")[1][0].of(claim.request_id))
    claim.accept()

    def fail(params):
        if params["Bucket"] == inputs.name:
            claim.release()

    on_call(aws.s3, "ListObjectsV2", fail)
    assert post(app.test_client(), cat(), headers=KEY).status_code == 409


def test_a_key_whose_request_has_expired_says_so(app, keys):
    keys.claim(object_name(KEY["Idempotency-Key"], "127.0.0.1"), *uploads("cat.png")).accept()
    assert post(app.test_client(), cat(), headers=KEY).status_code == 410


def test_a_key_of_one_who_was_taken_over_gets_the_answer_of_the_other(
    app, keys, inputs, on_call, aws, s3_clock
):
    """While it uploads, another POST takes over and is accepted."""
    name, others = object_name(KEY["Idempotency-Key"], "127.0.0.1"), []

    def overtake(params):
        if params["Key"].endswith("cat.png") and not others:
            s3_clock.ahead = TAKEN_OVER_AFTER.total_seconds() + 1
            others.append(keys.claim(name, *uploads("cat.png")))
            others[0].accept()

    on_call(aws.s3, "PutObject", overtake)
    reply = post(app.test_client(), cat(), headers=NOW)
    assert (reply.status_code, reply.json["request_id"]) == (202, others[0].request_id)
    assert app.extensions["services"].submissions.outbox.queue.counts().backlog == 0, "the other one sends"
