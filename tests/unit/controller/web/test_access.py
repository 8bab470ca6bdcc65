"""A walk of every address as a stranger, with a wrong token, and as a client who wants what is another's."""

import json
import logging
from io import BytesIO

import pytest
from pydantic import SecretStr

from cloud.logs import json_formatter
from controller.container import launch_plan
from controller.image_requests.request_ids import KEY_OBJECT
from controller.web.authentication import signer
from controller.web.token_guard import COOKIE, OPEN

ANNA, BOB = "anna-0123456789abcdef", "bob-0123456789abcdef"
HTML = {"Accept": "text/html"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def app(start):
    app = start(api_tokens=SecretStr(f"anna:{ANNA},bob:{BOB}"), request_timeout=1)
    app.extensions["services"].polling.request_timeout = 0.2  # nobody answers
    return app


@pytest.fixture
def client(app):
    return app.test_client(use_cookies=False)


@pytest.fixture
def annas(client, png):
    """A request of Anna's, whose image waits."""
    headers = bearer(ANNA) | {"Prefer": "respond-async"}
    return client.post("/", data={"image_file": (BytesIO(png), "secret.png")}, headers=headers).json


def addresses(app, request_id):
    """Every rule of the URL map with the ids of a request that exists, and its endpoint."""
    values = {"request_id": request_id, "batch_id": request_id, "name": "0000-secret.png"}
    values["filename"] = "page.css"
    for rule in app.url_map.iter_rules():
        yield rule.endpoint, rule.build({name: values[name] for name in rule.arguments})[1]


WRONG = [
    {},
    bearer(ANNA[:-1]),
    bearer(ANNA + "0"),
    bearer(ANNA.upper()),
    {"Authorization": f"Basic {ANNA}"},
    {"Cookie": f"{COOKIE}={ANNA}"},
    {"Cookie": f"{COOKIE}={signer('0123456789abcdef').sign('').decode()}"},
    {"Cookie": f"{COOKIE}={signer(ANNA).sign('').decode()[:-1]}"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "anna"},
    {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    {"X-HTTP-Method-Override": "GET"},
]


@pytest.mark.parametrize("headers", WRONG)
def test_without_a_right_token_every_address_is_refused_and_aws_is_not_asked(app, client, calls, headers):
    walked, request_id = 0, app.extensions["services"].request_ids.new()
    calls.clear()
    for endpoint, address in addresses(app, request_id):
        for method in METHODS if endpoint not in OPEN else ():
            response = client.open(address, method=method, headers=headers)
            assert response.status_code == 401, (method, address)
            walked += 1
    assert walked > 60
    assert calls == []


def test_nothing_that_another_client_may_ask_for_has_an_id_of_a_request_that_is_not_its_own(
    app, client, annas
):
    """Whoever knows a request-id may see the request, so no address may tell it: there are no listings."""
    app.extensions["services"].autoscaler.reconcile()
    known = annas["request_id"]
    for endpoint, address in addresses(app, "0" * 32):
        for accept in ("text/html", "application/json", "text/plain", "text/csv"):
            with client.get(address, headers=bearer(BOB) | {"Accept": accept}) as response:
                said = response.get_data(as_text=True) + str(response.headers)
            assert known not in said, (endpoint, accept)
            assert known[16:] not in said, (endpoint, accept)
            assert "secret.png" not in said, (endpoint, accept)


def test_two_clients_with_the_same_idempotency_key_do_not_meet(client, png):
    found = set()
    for token in (ANNA, BOB):
        headers = bearer(token) | {"Idempotency-Key": "1", "Prefer": "respond-async"}
        data = {"image_file": (BytesIO(png), "cat.png")}
        found.add(client.post("/", data=data, headers=headers).json["request_id"])
    assert len(found) == 2


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0000-secret.png/../0000-secret.png",
        "../{id}/0000-secret.png",
        "..%2f..%2ffleet/state",
        "%2e%2e/%2e%2e/request-ids/key",
        "0001-secret.png",
        "0000-secret.PNG",
        "0000-secret.png%00",
        "0000-secret.png?versionId=1/x",
        "00000-secret.png",
        "0000-",
        "\\..\\..\\state",
        "0000-" + "x" * 5000,
    ],
)
def test_no_way_of_writing_an_images_address_leads_to_anything_else(client, annas, path, state):
    state.write("fleet/state-of-test", b"secret")
    address = f"/requests/{annas['request_id']}/images/{path.format(id=annas['request_id'])}"
    response = client.get(address, headers=bearer(ANNA))
    # What the address is short for may be the image itself, and S3 refuses keys that are too long.
    assert response.status_code in (404, 503) or response.mimetype == "image/png"
    assert b"secret" not in response.data or response.mimetype == "application/json"


def test_every_answer_has_what_keeps_browsers_in_order(app, client, annas):
    for _, address in addresses(app, annas["request_id"]):
        for headers in ({}, bearer(ANNA), bearer(ANNA) | HTML):
            with client.get(address, headers=headers | {"Prefer": "wait=0"}) as response:
                found = response.headers
                assert "'none'" in found["Content-Security-Policy"], address
                assert found["X-Content-Type-Options"] == "nosniff"
                assert found["X-Frame-Options"] == "DENY"
                assert found["Cross-Origin-Resource-Policy"] == "same-origin"
                assert found["Referrer-Policy"] == "same-origin"
                assert "Access-Control-Allow-Origin" not in found
                public = address.startswith("/static/")
                private = found["Cache-Control"].startswith("private") or found["Cache-Control"] == "no-store"
                assert private or public, address


INJECTED = "x\r\nSet-Cookie: evil=1\r\n\r\n<script>alert(1)</script>"


@pytest.mark.parametrize("header", ["Prefer", "Accept", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"])
def test_a_line_break_in_a_header_of_a_request_is_in_no_header_of_an_answer(client, annas, header):
    value = INJECTED.replace("\r\n", "%0d%0a") + "\u2028".encode().decode("latin-1")
    for address in ("/", f"/requests/{annas['request_id']}"):
        response = client.get(address, headers=bearer(ANNA) | HTML | {header: value, "Prefer": "wait=0"})
        assert "evil" not in str(response.headers)
        assert "<script>alert" not in response.text


@pytest.mark.parametrize("place", ["/{}", "/requests/{}", "/fleet?window={}", "/requests/x?format={}"])
@pytest.mark.parametrize("accept", ["text/html", "application/json", "text/plain"])
def test_what_an_address_says_is_neither_run_nor_made_a_header(client, place, accept):
    address = place.format(INJECTED.replace("\r", "%0d").replace("\n", "%0a").replace("<", "%3c"))
    response = client.get(address, headers=bearer(ANNA) | {"Accept": accept})
    assert response.status_code in (400, 404)
    assert "Set-Cookie" not in response.headers
    assert response.mimetype == accept or response.mimetype == "application/json"
    assert response.mimetype != "text/html" or "<script>alert" not in response.text


def test_a_line_break_does_not_make_a_second_line_of_a_log():
    record = logging.makeLogRecord({"msg": 'a\r\n{"level": "forged"}\u2028\x1b[31m', "levelno": 20})
    record.uri = "/x\n{}"
    line = json_formatter().format(record)
    assert line.count("\n") == line.count("\r") == 0
    assert json.loads(line)["message"].startswith("a\r\n")


def test_secrets_are_in_no_answer_log_metric_or_user_data(app, client, annas, state, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "botocore")  # which logs its own requests at DEBUG, signatures included
    key = state.read(KEY_OBJECT)[0]
    cookie = client.post("/sign-in", data={"token": ANNA}).headers["Set-Cookie"].partition(";")[0]
    secrets = [ANNA, BOB, cookie.partition("=")[2], key.hex(), repr(key)[2:-1]]
    said = []
    for _, address in addresses(app, annas["request_id"]):
        for headers in (bearer(ANNA), bearer(ANNA[:-1]), HTML):
            for method in ("GET", "POST"):
                with client.open(address, method=method, headers={"Prefer": "wait=0"} | headers) as response:
                    said.append(response.get_data(as_text=True))
    services = app.extensions["services"]
    said += [launch_plan(services.settings, "us-east-1").user_data, repr(services.settings), caplog.text]
    assert len(said) > 60
    assert [secret for secret in secrets for text in said if secret in text] == []


def test_a_token_that_is_taken_away_opens_nothing_any_more(client, start):
    """Neither itself nor a cookie that was signed with it."""
    cookie = {"Cookie": f"{COOKIE}={signer(ANNA).sign('').decode()}"}
    after = start(api_tokens=SecretStr(f"bob:{BOB}"))
    for headers in (bearer(ANNA), cookie):
        assert client.get("/", headers=headers).status_code == 200
        assert after.test_client(use_cookies=False).get("/", headers=headers).status_code == 401
