"""What can be wrong with the topic is found before the first notice, and nobody is told anything."""

import pytest

from cloud.clients import sns_client
from deploy.doctor.notices import check_notices
from tests.support.topics import Subscribed


@pytest.fixture
def topic(aws, sns):
    return Subscribed(sns, aws.sqs)


@pytest.fixture
def sns(aws):
    return sns_client("us-east-1")


@pytest.fixture
def told(settings, topic):
    return settings.model_copy(update={"notify_topic": topic.arn})


def test_a_topic_that_can_be_told_is_told_nothing(aws, sns, told, topic):
    found = [(finding.state, finding.what) for finding in check_notices(aws.s3, sns, told)]
    assert found == [("ok", f"NOTIFY_TOPIC: {topic.arn}")]
    assert topic.received() == []


def test_a_topic_that_takes_longer_messages_is_told_nothing_either(aws, sns, told, topic, monkeypatch):
    """With MaximumMessageSize, it is up to 1 MiB."""
    monkeypatch.setattr("moto.sns.models.MAXIMUM_MESSAGE_LENGTH", 2**20)
    assert [finding.state for finding in check_notices(aws.s3, sns, told)] == ["ok"]
    assert topic.received() == []


def test_a_topic_that_is_not_there_is_named_with_how_to_make_it(aws, sns, told):
    arn = "arn:aws:sns:us-east-1:123456789012:other_region"
    [finding] = check_notices(aws.s3, sns, told.model_copy(update={"notify_topic": arn}))
    assert (finding.state, finding.what) == ("wrong", f"NOTIFY_TOPIC: there is no topic {arn}")
    assert "create-topic --name other_region" in finding.fix


def test_a_missing_permission_is_named(aws, sns, told, deny):
    deny(sns, "Publish", "AuthorizationError")
    [finding] = check_notices(aws.s3, sns, told)
    assert finding.state == "wrong"
    assert finding.what.startswith(f"sns:Publish on {told.notify_topic} is not allowed")


@pytest.mark.parametrize("operation", ["PutObject", "DeleteObject"])
def test_a_missing_permission_on_what_is_noted_is_named(aws, sns, told, deny, operation):
    deny(aws.s3, operation)
    wrongs = [finding.what for finding in check_notices(aws.s3, sns, told) if finding.state == "wrong"]
    assert wrongs == [f"s3:{operation} on arn:aws:s3:::test-output-state/notices/* is not allowed"]


def test_a_role_that_may_only_publish_is_enough_and_the_rest_is_said(aws, sns, told, deny):
    deny(sns, "GetTopicAttributes", "AuthorizationError")
    [finding] = check_notices(aws.s3, sns, told)
    assert finding.state == "ok"
    assert "may be published to, if it exists" in finding.what
