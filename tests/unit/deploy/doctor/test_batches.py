"""What can be wrong with batches before the first one is found, and told with the way to mend it."""

import pytest

from deploy.doctor.batches import check_batches, check_source
from tests.support.findings import wrongs

BOTH = pytest.mark.parametrize("controller", [True, False])


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"batch_sources": ("s3://photos/pets",)})


@pytest.fixture
def source(aws):
    """A source with one image."""
    aws.s3.create_bucket(Bucket="photos")
    aws.s3.put_object(Bucket="photos", Key="pets/cat.jpg", Body=b"meow")
    return "s3://photos/pets"


@BOTH
def test_batches_that_are_as_they_should_be_are_left_as_they_are(aws, settings, source, controller):
    found = list(check_batches(aws, settings, controller=controller))
    assert [(finding.state, finding.what) for finding in found] == [
        ("ok", "BATCH_SOURCES: s3://photos/pets"),
        ("ok", "queue of slices: test-requests-batches"),
    ]
    assert aws.s3.list_objects_v2(Bucket=settings.state_bucket)["KeyCount"] == 0
    assert aws.s3.list_objects_v2(Bucket="photos")["KeyCount"] == 1


def test_a_source_in_no_bucket_is_told_by_the_settings_name(aws):
    found = check_source(aws.s3, "s3://other_region/pets")
    assert found.what == "BATCH_SOURCES: there is no bucket other_region"
    assert found.state == "wrong"


def test_an_empty_source_is_fine(aws, source):
    found = check_source(aws.s3, "s3://photos/dogs")
    assert (found.state, found.what) == (
        "ok", "BATCH_SOURCES: s3://photos/dogs can be listed, and has no objects yet",
    )  # fmt: skip


def test_an_object_without_bytes_can_be_read(aws, source):
    aws.s3.put_object(Bucket="photos", Key="pets/", Body=b"")
    assert check_source(aws.s3, source).state == "ok"


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("ListObjectsV2", "s3:ListBucket on arn:aws:s3:::photos is not allowed"),
        ("GetObject", "s3:GetObject on arn:aws:s3:::photos/pets/cat.jpg is not allowed"),
    ],
)
def test_a_missing_permission_on_a_source_is_named(aws, source, deny, operation, permission):
    deny(aws.s3, operation)
    found = check_source(aws.s3, source)
    assert (found.state, found.what.startswith(permission)) == ("wrong", True)


def test_a_key_that_may_not_be_used_is_told_with_both_policies_that_must_allow_it(aws, source, deny):
    deny(aws.s3, "GetObject", "KMS.DisabledException")
    found = check_source(aws.s3, source)
    assert found.state == "wrong"
    assert "kms:Decrypt" in found.fix


def test_an_image_in_an_archive_hides_nothing(aws, source, deny):
    deny(aws.s3, "GetObject", "InvalidObjectState")
    assert check_source(aws.s3, source).state == "ok"


def test_an_error_that_says_nothing_of_permissions_is_told_as_it_is(aws, source, deny):
    deny(aws.s3, "ListObjectsV2", "SlowDown")
    assert check_source(aws.s3, source).state == "unknown"


@pytest.mark.parametrize(
    ("controller", "operation", "permission"),
    [
        (True, "PutObject", "s3:PutObject on arn:aws:s3:::test-output-state/batches/*"),
        (True, "PutObject", "s3:PutObject on arn:aws:s3:::test-output-state/open-batches/*"),
        (True, "DeleteObject", "s3:DeleteObject on arn:aws:s3:::test-output-state/open-batches/*"),
        (False, "GetObject", "s3:GetObject on arn:aws:s3:::test-output-state/batches/*"),
    ],
)
def test_a_missing_permission_on_what_batches_note_is_named(
    aws, settings, source, deny, controller, operation, permission
):
    deny(aws.s3, operation)
    assert permission in "\n".join(wrongs(check_batches(aws, settings, controller=controller)))


@BOTH
def test_a_queue_that_is_not_there_is_told_with_how_to_make_it(aws, settings, source, controller):
    aws.sqs.delete_queue(QueueUrl=aws.sqs.get_queue_url(QueueName="test-requests-batches")["QueueUrl"])
    [finding] = wrongs(check_batches(aws, settings, controller=controller))
    assert "BATCH_SOURCES is set, but there is no queue test-requests-batches" in finding
    assert "cloud.provision" in finding


@pytest.mark.parametrize(
    ("controller", "operation"),
    [
        (True, "GetQueueUrl"),
        (True, "SendMessageBatch"),
        (True, "GetQueueAttributes"),
        (False, "GetQueueUrl"),
        (False, "SendMessageBatch"),
        (False, "ReceiveMessage"),
        (False, "DeleteMessage"),
        (False, "ChangeMessageVisibility"),
    ],
)
def test_a_missing_permission_on_the_queue_is_named(aws, settings, source, deny, controller, operation):
    deny(aws.sqs, operation, "AccessDeniedException")
    [finding] = wrongs(check_batches(aws, settings, controller=controller))
    permission = f"sqs:{operation.removesuffix('Batch')}"
    assert finding.startswith(f"{permission} on the queue test-requests-batches is not allowed")


@pytest.mark.parametrize("operation", ["GetQueueUrl", "SendMessageBatch", "GetQueueAttributes"])
def test_a_queue_that_does_not_answer_is_neither_right_nor_wrong(aws, settings, source, deny, operation):
    deny(aws.sqs, operation, "RequestThrottled")
    found = list(check_batches(aws, settings, controller=True))
    assert [finding.state for finding in found] == ["ok", "unknown"]


def test_a_queue_with_a_dead_letter_queue_is_wrong(aws, settings, source):
    url = aws.sqs.get_queue_url(QueueName="test-requests")["QueueUrl"]
    policy = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
    slices = aws.sqs.get_queue_url(QueueName="test-requests-batches")["QueueUrl"]
    aws.sqs.set_queue_attributes(QueueUrl=slices, Attributes=policy)
    [finding] = wrongs(check_batches(aws, settings, controller=True))
    assert "has a dead-letter queue" in finding
