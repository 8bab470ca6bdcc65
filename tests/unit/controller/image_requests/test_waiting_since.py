"""When the first message was sent that waits, which is where the stages of a boot begin."""

import time
from datetime import timedelta
from io import BytesIO

from cloud.clock import now
from controller.app import create_app
from tests.support.submissions import submit


def test_what_waits_longest_says_since_when(make, work):
    process = make()
    assert process.polling.waiting().sent_at is None
    before = now()
    first = submit(process, "a.png")
    between = now()
    submit(process, "b.png")
    assert before <= process.polling.waiting().sent_at <= between
    work()
    assert first.finished.wait(10)


def test_the_time_is_that_of_the_first_message_and_not_of_the_upload(make, png, on_call, aws):
    process, sent = make(), []
    on_call(aws.s3, "PutObject", lambda params: time.sleep(0.7))
    on_call(aws.sqs, "SendMessageBatch", lambda params: sent.append(now()))
    files = {"image_file": [(BytesIO(png), "cat.png")]}
    create_app(process).test_client().post("/", data=files, headers={"Prefer": "respond-async"})
    assert timedelta() <= sent[0] - process.polling.waiting().sent_at < timedelta(seconds=0.5)
