from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from cloud.errors import CloudError
from controller.image_requests.errors import RequestRefused
from controller.web.rate_limits import OverQuota, Quota, TooManyImages
from tests.support.clocks import Clock
from tests.support.web_client import BROWSER, page, post


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def quota(clock):
    return Quota(60, clock)


def send(quota, client, images):
    with quota.charge(client, images):
        pass


def refused(quota, client, images) -> RequestRefused:
    with pytest.raises((OverQuota, TooManyImages)) as over:
        send(quota, client, images)
    return over.value


def test_a_minutes_worth_may_be_sent_at_once_and_then_comes_back_evenly(quota, clock):
    send(quota, "anna", 60)
    over = refused(quota, "anna", 10)
    assert over.retry_after == 10
    clock.now += 9.9
    assert refused(quota, "anna", 10).retry_after == 1
    clock.now += 0.1
    send(quota, "anna", 10)
    assert refused(quota, "anna", 1).retry_after == 1


def test_it_says_what_was_asked_what_is_allowed_and_when_to_try_again(quota):
    send(quota, "anna", 53)
    assert refused(quota, "anna", 20).message == (
        "You may send 60 images a minute, and 7 now. For 20, try again in 13 seconds."
    )


def test_what_is_never_possible_is_said_to_be_so(quota):
    over = refused(quota, "anna", 1200)
    assert over.retry_after is None
    assert over.message == (
        "1,200 images at once are more than you may send in a minute. Send at most 60 in one request."
    )
    send(quota, "anna", 60)


@pytest.mark.parametrize("per_minute", [1, 7, 59, 60, 1000, 12345])
def test_who_waits_as_long_as_it_says_is_served(clock, per_minute):
    quota = Quota(per_minute, clock)
    for images in (per_minute, 1, (per_minute + 1) // 2, per_minute):
        try:
            send(quota, "anna", images)
        except OverQuota as over:
            clock.now += over.retry_after
            send(quota, "anna", images)


def test_clients_do_not_use_up_each_others(quota):
    send(quota, "anna", 60)
    send(quota, "ci", 60)


def test_what_failed_costs_nothing(quota):
    with pytest.raises(CloudError), quota.charge("anna", 60):
        raise CloudError("AWS is down")
    send(quota, "anna", 60)


def test_without_a_quota_nobody_is_refused():
    quota = Quota(0)
    send(quota, "anna", 10**9)
    assert quota.headers("anna") == {}


def test_the_headers_say_how_a_client_stands(quota, clock):
    send(quota, "anna", 45)
    clock.now += 10
    assert quota.headers("anna") == {
        "RateLimit-Policy": '"images";q=60;w=60',
        "RateLimit": '"images";r=25;t=35',
    }


def test_clients_that_have_gone_are_forgotten_and_those_that_have_not_are_not(quota, clock):
    for number in range(1000):
        send(quota, f"192.0.2.{number}", 1)
    clock.now += 40
    send(quota, "anna", 60)
    clock.now += 21
    refused(quota, "anna", 60)
    clock.now += 61
    send(quota, "anna", 1)
    assert len(quota._buckets) <= 2


def test_of_many_at_the_same_time_as_many_get_through_as_fit(quota):
    def one(_):
        try:
            send(quota, "anna", 3)
        except OverQuota:
            return 0
        return 3

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(one, range(500))) == 60


# In the app


def test_what_is_over_the_quota_is_refused_and_nothing_of_it_stays(start, photo, inputs, outputs, queue):
    client = start(images_per_minute=3).test_client()
    asynchronous = {"Prefer": "respond-async"}
    first = post(client, photo(), photo(), headers=asynchronous)
    assert (first.status_code, first.headers["RateLimit-Policy"]) == (202, '"images";q=3;w=60')
    before = {*inputs.keys("")}, queue.counts().backlog
    second = post(client, photo(), photo(), headers=asynchronous)
    assert second.status_code == 429
    assert 1 <= int(second.headers["Retry-After"]) <= 20
    assert second.headers["RateLimit"].startswith('"images";r=1;t=')
    assert second.json["error"]["code"] == "over_quota"
    assert second.json["error"]["message"].startswith("You may send 3 images a minute, and 1 now.")
    fourth = post(client, *[photo() for _ in range(4)], headers=BROWSER)
    assert fourth.status_code == 413
    assert "Send at most 3 in one request" in page(fourth)
    assert ({*inputs.keys("")}, queue.counts().backlog) == before
    assert post(client, photo(), headers=asynchronous).status_code == 202
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "2001:db8::1"}}
    assert post(client, photo(), headers=asynchronous, **elsewhere).status_code == 202


def test_a_refused_upload_costs_nothing(start, photo):
    client = start(images_per_minute=1).test_client()
    assert client.post("/").status_code == 400
    assert post(client, *[photo() for _ in range(6)]).status_code == 413
    assert post(client, photo(), headers={"Prefer": "respond-async"}).status_code == 202


def test_each_token_has_its_quota_wherever_it_is_used(start, photo):
    tokens = {name: f"{name}-0123456789abcdef" for name in ("anna", "ci")}
    written = SecretStr(",".join(f"{name}:{token}" for name, token in tokens.items()))
    client = start(images_per_minute=1, api_tokens=written).test_client()
    found = []
    for name, peer in (("anna", "192.0.2.1"), ("anna", "192.0.2.2"), ("ci", "192.0.2.1")):
        headers = {"Authorization": f"Bearer {tokens[name]}", "Prefer": "respond-async"}
        reply = post(client, photo(), headers=headers, environ_overrides={"REMOTE_ADDR": peer})
        found.append(reply.status_code)
    assert found == [202, 429, 202]
    assert "RateLimit" not in post(client, photo()).headers
