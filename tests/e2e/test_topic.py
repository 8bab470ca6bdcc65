"""Whoever subscribes to NOTIFY_TOPIC is told by the running system, and pays for it on the bill."""

from local.driver import eventually
from tests.support.requests_of_users import photos
from tests.support.topics import NAME, Subscribed


def test_a_request_is_told_to_whoever_subscribes(start):
    system = start(NOTIFY_TOPIC=f"arn:aws:sns:us-east-1:123456789012:{NAME}")
    topic = Subscribed(system.client("sns"), system.client("sqs"))
    answer = system.post(*photos()).json()
    [notice] = topic.received(seconds=10)
    assert notice["id"] == answer["request_id"]
    assert notice["path"] == answer["url"]
    assert notice["counts"] == {name: answer["counts"][name] for name in ("classified", "failed")}
    assert notice["attributes"] == {"kind": "request", "status": notice["status"]}
    state = system.client("s3")
    eventually(
        lambda: not state.list_objects_v2(Bucket="output-predictions-state", Prefix="notices/")["KeyCount"]
    )
    assert system.record()["calls"]["sns"]["Publish"] == 1
