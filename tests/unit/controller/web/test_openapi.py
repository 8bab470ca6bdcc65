"""The document is about the app as it is, and is a valid one."""

import re
from types import SimpleNamespace

import pytest
from openapi_spec_validator import validate

from cloud.tokens import ApiToken
from controller.app import create_app
from controller.batches.order import Order
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from controller.web.openapi.document import document
from controller.web.openapi.operations import OPERATIONS
from controller.web.token_guard import OPEN
from tests.support.page import Page

TOKEN = ApiToken("ci", "ci-0123456789abcdef")


def made(*tokens, hosts=()):
    settings = SimpleNamespace(max_files=5, max_upload_mb=1, request_timeout=5, trusted_hosts=hosts)
    return create_app(
        SimpleNamespace(settings=settings, tokens=KnownTokens(tokens), dependencies=Dependencies({}))
    )


@pytest.fixture(params=["open", "restricted"])
def app(request):
    return made(*([TOKEN] if request.param == "restricted" else []))


def described(app):
    restricted = app.extensions["services"].tokens.restricted
    return document(app, restricted)


def test_it_is_valid(app):
    validate(described(app))


def test_every_route_is_in_it_with_each_of_its_parameters_and_nothing_else_is(app):
    found = {}
    for path, methods in described(app)["paths"].items():
        for method, operation in methods.items():
            found[method.upper(), path] = operation
    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            operation = found.pop((method, path))
            inside = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert inside == rule.arguments
            assert operation["summary"]
    assert not found


def test_what_another_site_is_answered_is_in_it(app):
    client, elsewhere = app.test_client(), {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    for path, methods in described(app)["paths"].items():
        if "get" in methods:
            status = client.get(re.sub(r"{\w+}", "x", path), headers=elsewhere).status_code
            assert str(status) in methods["get"]["responses"], path


def test_what_is_answered_by_another_name_is_in_it():
    app = made(hosts=("photos.example",))
    for path, methods in described(app)["paths"].items():
        if "get" in methods:
            address = re.sub(r"{\w+}", "x", path)
            status = app.test_client().get(address, headers={"Host": "elsewhere.example"}).status_code
            assert str(status) in methods["get"]["responses"], path
            assert (status == 421) is ("421" in methods["get"]["responses"]), path


def test_operations_py_has_an_entry_for_each_route_and_none_for_one_that_is_gone():
    assert OPERATIONS.keys() == {rule.endpoint for rule in made(TOKEN).url_map.iter_rules()}


def test_tokens_are_spoken_of_only_where_they_are_needed():
    everybody, members = described(made()), described(made(TOKEN))
    assert "securitySchemes" not in everybody["components"]
    assert "security" not in str(everybody["paths"])
    assert members["components"]["securitySchemes"].keys() == {"token", "signedIn"}
    for methods in members["paths"].values():
        for operation in methods.values():
            is_open = operation["operationId"] in {endpoint.replace(".", "_") for endpoint in OPEN}
            assert ("security" in operation) is not is_open
            assert ("401" in operation["responses"]) is (
                not is_open or operation["operationId"] == "sign_in_enter"
            )
    assert TOKEN.token not in str(members)


def test_it_is_served_as_a_document_and_as_a_page():
    client = made().test_client()
    assert client.get("/openapi.json").json["openapi"] == "3.1.0"
    page = client.get("/api").text
    for operation in ("POST /", "GET /requests/{request_id}", "GET /fleet"):
        assert operation in page
    contents = re.findall(r'href="#(\w+)"', page.partition('class="contents"')[2])
    assert contents == re.findall(r'<section id="(\w+)"', page)
    assert "upload_classify" in contents
    assert "sign_in" not in page
    assert not re.search(r"<script(?![^>]*src=)|style=|onclick", page), "the policy would not let them run"


def test_batches_can_be_tried_where_there_are_some():
    app = made()
    assert "batches_ask" not in app.test_client().get("/api").text
    app.jinja_env.globals["settings"].batch_sources = ("s3://lab/",)
    page = Page(app.test_client().get("/api").text)
    assert page.one("section", id="batches_ask")
    assert page.one("textarea", id="batches_ask-body")
    assert '"source": "s3://lab/"' in page.text
    assert "curl -H 'Content-Type: application/json' -d '{" in page.text
    for field in Order.model_fields:
        assert f"{field} " in page.text


def test_the_page_shows_the_token_in_its_commands_only_where_one_is_needed():
    client = made(TOKEN).test_client()
    assert client.get("/api").status_code == 401
    page = client.get("/api", headers={"Authorization": f"Bearer {TOKEN.token}"}).text
    assert 'data-restricted="true"' in page
    assert TOKEN.token not in page
    assert 'data-restricted="false"' in made().test_client().get("/api").text


def test_the_document_is_made_once(start, monkeypatch):
    """It takes forty times as long as most answers."""
    client, made = start().test_client(), []
    monkeypatch.setattr(
        "controller.web.routes.api.document", lambda *given: made.append(given) or document(*given)
    )
    assert client.get("/openapi.json").json == client.get("/openapi.json").json
    assert client.get("/api").status_code == 200
    assert len(made) == 1
