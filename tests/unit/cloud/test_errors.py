import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cloud.errors import CloudError, Conflict, NotFound, calling


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as AWS says it"}}, "GetObject")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NoSuchKey", NotFound),
        ("NoSuchBucket", NotFound),
        ("404", NotFound),
        ("AWS.SimpleQueueService.NonExistentQueue", NotFound),
        ("PreconditionFailed", Conflict),
        ("ConditionalRequestConflict", CloudError),
        ("AccessDenied", CloudError),
        ("InsufficientInstanceCapacity", CloudError),
    ],
)
def test_what_aws_refuses_becomes_the_domains_own_error(code, kind):
    with pytest.raises(CloudError) as raised, calling("read the thing"):
        raise refused(code)
    assert type(raised.value) is kind
    assert raised.value.code == code
    assert str(raised.value).startswith("could not read the thing: ")
    assert "as AWS says it" in str(raised.value)


def test_an_endpoint_that_does_not_answer_is_a_cloud_error_without_a_code():
    told = "could not read the thing: Could not connect"
    with pytest.raises(CloudError, match=told) as raised, calling("read the thing"):
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    assert raised.value.code == ""


def test_what_a_client_may_read_has_neither_names_nor_ids_of_the_account():
    secret = "User: arn:aws:sts::123456789012:assumed-role/controller/i-1 is not authorized"
    with pytest.raises(CloudError) as raised, calling("read s3://private-bucket/fleet/state"):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": secret}}, "GetObject")
    assert raised.value.public == "AWS says AccessDenied"
    assert CloudError("could not read s3://private-bucket/x: no route").public == "AWS gave no usable answer"


def test_our_own_mistakes_stay_what_they_are():
    with pytest.raises(KeyError), calling("read the thing"):
        raise KeyError("Body")


def test_nothing_happens_when_all_is_well():
    with calling("read the thing"):
        done = True
    assert done
