import json

import pytest

from cloud.errors import CloudError, NotFound
from cloud.request_queue import QueueCounts, RequestQueue, batches
from tests.support.aws_errors import refusal


def ids(count: int) -> list[str]:
    return [f"{n:028x}/0000-犬 {n}.jpg" for n in range(count)]


def drain(queue: RequestQueue) -> list[str]:
    found = []
    while messages := queue.receive(10, 0):
        found += [m.body for m in messages]
        queue.delete(messages)
    return sorted(found)


def test_what_is_sent_is_received_once(queue):
    queue.send(ids(23))
    assert drain(queue) == ids(23)
    assert queue.counts() == QueueCounts(0, 0, 0)


def test_messages_are_sent_and_deleted_ten_to_a_call(queue, aws, on_call):
    calls = []
    on_call(aws.sqs, "SendMessageBatch", lambda params: calls.append(len(params["Entries"])))
    on_call(aws.sqs, "DeleteMessageBatch", lambda params: calls.append(len(params["Entries"])))
    queue.send(iter(ids(25)))
    assert calls == [10, 10, 5]
    calls.clear()
    queue.delete([m for _ in range(3) for m in queue.receive(10, 0)])
    assert sum(calls) == 25
    assert len(calls) == 3


def test_nothing_is_no_call(queue, aws, on_call):
    on_call(aws.sqs, "*", lambda params: pytest.fail("AWS was called"))
    queue.send([])
    queue.delete([])
    queue.give_back([])


def test_the_counts_tell_visible_in_flight_and_delayed_apart(queue, aws):
    queue.send(ids(3))
    queue.receive(1, 0)
    aws.sqs.send_message(QueueUrl=queue.url, MessageBody="later", DelaySeconds=60)
    counts = queue.counts()
    assert counts == QueueCounts(visible=2, in_flight=1, delayed=1)
    assert counts.backlog == 4


def test_a_message_in_flight_is_hidden_from_others_until_it_is_given_back(queue):
    queue.send(ids(1))
    messages = queue.receive(10, 0)
    assert queue.receive(10, 0) == []
    queue.give_back(messages)
    (again,) = queue.receive(10, 0)
    assert (again.body, again.receives) == (ids(1)[0], 2)


def test_a_message_that_is_extended_stays_hidden(queue):
    queue.send(ids(1))
    messages = queue.receive(10, 0)
    queue.extend(messages, 3600)
    assert queue.receive(10, 0) == []
    assert queue.counts().in_flight == 1


def test_extending_what_is_deleted_already_is_no_error(queue):
    queue.send(ids(2))
    messages = queue.receive(10, 0)
    queue.delete(messages[:1])
    queue.extend(messages, 30)


def test_an_entry_that_sqs_refuses_once_is_sent_again(queue, aws, on_call, on_reply):
    attempts = []

    def refuse_the_second(reply):
        if len(attempts) == 1:
            reply["Failed"] = [{"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "once"}]

    on_call(aws.sqs, "SendMessageBatch", lambda params: attempts.append(params["Entries"]))
    on_reply(aws.sqs, "SendMessageBatch", refuse_the_second)
    queue.send(ids(3))
    assert [[entry["MessageBody"] for entry in entries] for entries in attempts] == [ids(3), ids(3)[1:2]]


def test_an_entry_that_sqs_refuses_again_is_an_error(queue, aws, on_reply):
    failed = [{"Id": "0", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "odd characters"}]
    on_reply(aws.sqs, "SendMessageBatch", lambda reply: reply.update(Failed=failed))
    with pytest.raises(CloudError, match=r"test-requests refused 1 messages.*odd characters"):
        queue.send(ids(1))


def test_messages_received_too_often_become_dead_letters(queue, settings):
    queue.send(ids(2))
    for _ in range(settings.max_receives):
        queue.give_back(queue.receive(10, 0))
    assert queue.receive(10, 0) == []
    letters = queue.dead_letters()
    assert sorted(letter.body for letter in letters) == ids(2)
    queue.delete_dead_letters(letters)
    assert queue.dead_letters() == []
    assert queue.counts().backlog == 0


def test_a_queue_without_dead_letter_queue_has_no_dead_letters(clients):
    clients.sqs.create_queue(QueueName="plain")
    queue = RequestQueue(clients.sqs, "plain")
    assert queue.dead_letters() == []
    queue.delete_dead_letters([])


def test_the_dead_letter_queue_is_the_one_that_the_queue_names(queue, aws):
    url = aws.sqs.create_queue(QueueName="elsewhere")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    aws.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"RedrivePolicy": policy})
    aws.sqs.send_message(QueueUrl=url, MessageBody=ids(1)[0])
    assert [letter.body for letter in queue.dead_letters()] == ids(1)


def test_a_queue_that_does_not_exist_is_named(clients):
    queue = RequestQueue(clients.sqs, "missing")
    with pytest.raises(NotFound, match="could not find the queue missing"):
        queue.check()
    clients.sqs.create_queue(QueueName="missing")
    queue.check()


def test_a_queue_that_may_not_be_read_says_so(queue, aws, on_call):
    def refuse(params):
        raise refusal("AccessDenied", "GetQueueAttributes")

    on_call(aws.sqs, "GetQueueAttributes", refuse)
    with pytest.raises(CloudError, match=r"could not count the messages of test-requests: .*AccessDenied"):
        queue.check()


@pytest.mark.parametrize(
    ("operation", "part"), [("GetQueueUrl", "QueueUrl"), ("GetQueueAttributes", "Attributes")]
)
def test_a_reply_that_was_cut_is_an_error_of_aws(clients, queue, aws, on_reply, operation, part):
    """botocore takes half a reply of SQS for an empty one."""
    fresh, cut = RequestQueue(aws.sqs, queue.name), [True]
    on_reply(aws.sqs, operation, lambda parsed: parsed.pop(part) if cut and cut.pop() else None)
    with pytest.raises(CloudError, match="the reply of AWS is not whole"):
        fresh.check()
    fresh.check()


def test_batches_are_whole_and_in_order():
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []


def test_the_receive_of_a_message_that_is_renewed_does_not_count(queue):
    queue.send(ids(12))
    for _ in range(5):
        queue.renew([m for _ in range(2) for m in queue.receive(10, 0)])
        assert queue.counts() == QueueCounts(visible=12, in_flight=0, delayed=0)
    assert {(m.receives, m.postponed) for m in queue.receive(10, 0)} == {(1, 0)}


def test_the_earlier_receives_of_a_renewed_message_count(queue):
    queue.send(ids(1))
    queue.give_back(queue.receive(1, 0))
    for _ in range(5):
        queue.renew(queue.receive(1, 0))
        queue.postpone(queue.receive(1, 0), 0)
    queue.give_back(queue.receive(1, 0))
    assert [(m.receives, m.postponed) for m in queue.receive(1, 0)] == [(3, 5)]


def test_a_postponed_message_comes_back_later_and_says_how_often_it_was_postponed(queue, aws, on_call):
    queue.send(ids(1))
    delays = []
    on_call(aws.sqs, "SendMessageBatch", lambda p: delays.extend(e["DelaySeconds"] for e in p["Entries"]))
    queue.postpone(queue.receive(1, 0), 0)
    queue.renew(queue.receive(1, 0))
    queue.postpone(queue.receive(1, 0), 0.4)
    (message,) = queue.receive(1, 0)
    assert (message.body, message.receives, message.postponed) == (ids(1)[0], 1, 2)
    queue.postpone([message], 43200)
    assert delays == [0, 0, 0, 900]
    assert queue.counts() == QueueCounts(visible=0, in_flight=0, delayed=1)


def test_other_messages_in_place_of_one_are_sent_before_it_is_deleted(queue, aws, on_call):
    queue.send(ids(1))
    calls = []
    on_call(aws.sqs, "SendMessageBatch", lambda p: calls.append([e["DelaySeconds"] for e in p["Entries"]]))
    on_call(aws.sqs, "DeleteMessageBatch", lambda p: calls.append("delete"))
    (message,) = queue.receive(1, 0)
    queue.replace(message, ["first half", "second half"])
    assert calls == [[0, 0], "delete"]
    found = queue.receive(10, 0)
    assert sorted((m.body, m.receives) for m in found) == [("first half", 1), ("second half", 1)]
    queue.replace(found[0], ["rest"], seconds=0.2, tries=1)
    assert [(m.body, m.receives) for m in queue.receive(10, 0)] == [("rest", 2)]
    assert queue.counts() == QueueCounts(visible=0, in_flight=2, delayed=0)


def test_a_message_that_could_not_be_replaced_is_not_deleted(queue, aws, on_call):
    def refuse(params):
        raise refusal("ServiceUnavailable", "SendMessageBatch")

    queue.send(ids(1))
    on_call(aws.sqs, "SendMessageBatch", refuse)
    with pytest.raises(CloudError):
        queue.renew(queue.receive(1, 0))
    assert queue.counts().in_flight == 1


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "", "9" * 5000])
def test_an_attribute_that_somebody_else_wrote_does_no_harm(queue, aws, value):
    kind = {"DataType": "String", "StringValue": value or " "}
    attributes = {"Postponed": kind, "Tried": kind}
    aws.sqs.send_message(QueueUrl=queue.url, MessageBody=ids(1)[0], MessageAttributes=attributes)
    assert [(m.receives, m.postponed) for m in queue.receive(1, 0)] == [(1, 0)]


def test_a_receiver_decides_how_long_messages_are_in_flight_whatever_the_queue_says(aws, queue, settings):
    queue.send(ids(1))
    receiver = RequestQueue(aws.sqs, settings.request_queue, visibility_timeout=1)
    assert receiver.receive(1, 0)
    assert not queue.receive(1, 0)
    assert queue.receive(1, 3)


def test_what_replaces_a_message_was_postponed_as_often(queue):
    queue.send(ids(1))
    queue.postpone(queue.receive(1, 0), 0)
    queue.replace(queue.receive(1, 0)[0], ["half"])
    assert [(m.body, m.postponed) for m in queue.receive(1, 0)] == [("half", 1)]
