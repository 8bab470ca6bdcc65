"""What a stranger without a token can make the controller spend."""

import pytest

from cloud.image_id import new_request_id


@pytest.fixture
def client(start):
    client = start().test_client()
    client.get(f"/requests/{new_request_id()}")  # reads the key of the request-ids
    return client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/images/0000-cat.png"),
        ("GET", "/previews/0000-cat.png"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ],
)
def test_a_guessed_request_id_costs_no_call_of_aws(client, calls, method, path):
    for _ in range(20):
        address = f"/requests/{new_request_id()}{path}"
        assert client.open(address, method=method, headers={"Prefer": "wait=1"}).status_code == 404
    assert calls == []


def test_readiness_is_looked_at_once_in_some_seconds_however_often_it_is_asked_for(client, calls):
    assert [client.get("/readyz").status_code for _ in range(20)] == [200] * 20
    assert calls.count("HeadBucket") == 3
    assert len(calls) <= 5
