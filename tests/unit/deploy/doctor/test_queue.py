"""What is wrong with the queue, and how to mend it."""

import json

import pytest

from deploy.doctor import storage
from tests.support.findings import states, wrongs


def test_a_queue_that_is_as_it_should_be_is_left_as_it_is(aws, settings, queue):
    queue.send([f"{'0' * 32}/0000-cat.jpg"])
    assert states(storage.check_queue(aws.sqs, settings, controller=True)) == {"ok"}
    assert states(storage.check_queue(aws.sqs, settings, controller=False)) == {"ok"}
    [message] = queue.receive(10, 0)
    assert message.receives == 1


def test_a_queue_that_is_not_there_is_told_with_how_to_make_it(clients, settings):
    [finding] = wrongs(storage.check_queue(clients.sqs, settings, controller=False))
    assert "no queue test-requests" in finding
    assert "cloud.provision" in finding


@pytest.mark.parametrize("operation", storage.REFUSED)
@pytest.mark.parametrize("controller", [True, False])
def test_a_missing_permission_on_the_queue_is_named(aws, settings, deny, operation, controller):
    deny(aws.sqs, operation, "AccessDeniedException")
    found = wrongs(storage.check_queue(aws.sqs, settings, controller))
    if controller and operation in storage.WORKER_ONLY:
        assert found == []
    else:
        permission = operation.removesuffix("Batch")
        assert f"sqs:{permission} on the queue test-requests is not allowed" in found[0]


@pytest.mark.parametrize("operation", ["GetQueueUrl", "GetQueueAttributes"])
def test_a_queue_that_may_not_be_looked_at_is_told(aws, settings, deny, operation):
    deny(aws.sqs, operation)
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert f"sqs:{operation}" in finding


@pytest.fixture
def change(aws):
    """Changes attributes of a queue."""

    def change(name, **attributes):
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        aws.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    return change


def test_another_visibility_timeout_than_the_workers_is_wrong(aws, settings, change):
    change("test-requests", VisibilityTimeout="5")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "is 5 s" in finding
    assert "set VISIBILITY_TIMEOUT=5" in finding


def test_a_queue_without_a_redrive_policy_is_wrong(aws, settings, change):
    change("test-requests", RedrivePolicy="")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "no redrive policy" in finding
    assert "test-requests-dead" in finding


def test_another_number_of_receives_than_the_workers_is_wrong(aws, settings, change):
    url = aws.sqs.get_queue_url(QueueName="test-requests-dead")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    change("test-requests", RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 9}))
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "after 9 receives" in finding
    assert "set MAX_RECEIVES=9" in finding


def test_dead_letters_that_are_gone_too_soon_are_wrong(aws, settings, change):
    change("test-requests-dead", MessageRetentionPeriod="345600")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "test-requests-dead keeps messages no longer" in finding


def test_a_dead_letter_queue_that_is_gone_is_wrong(aws, settings):
    aws.sqs.delete_queue(QueueUrl=aws.sqs.get_queue_url(QueueName="test-requests-dead")["QueueUrl"])
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "test-requests-dead cannot be found" in finding
