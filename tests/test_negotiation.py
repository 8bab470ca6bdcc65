from io import BytesIO

import pytest
from flask import Request
from werkzeug.exceptions import BadRequest
from werkzeug.test import EnvironBuilder

from controller.negotiation import Form, wanted_form, wants_async

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def request(
    accept: str | None = None, field: str = "", method: str = "POST", path: str = "/", **headers: str
):
    if accept is not None:
        headers["Accept"] = accept
    data = {field: (BytesIO(b"x"), "cat.png")} if field else None
    return Request(EnvironBuilder(path, method=method, headers=headers, data=data).get_environ())


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (BROWSER, Form.HTML),
        ("text/html", Form.HTML),
        ("application/json", Form.JSON),
        ("application/json, text/plain, */*", Form.JSON),
        ("text/html;q=0.5, application/json", Form.JSON),
        ("text/plain", Form.STEM_LINES),
        ("text/plain;q=0.9, text/html;q=0.1", Form.STEM_LINES),
        ("*/*", Form.JSON),
        ("*/*;q=0.8", Form.JSON),
        ("", Form.JSON),
        (None, Form.JSON),
        ("image/png", Form.JSON),
        ("application/*", Form.JSON),
    ],
)
def test_the_form_is_what_accept_says_and_json_without_preference(accept, form):
    assert wanted_form(request(accept)) is form
    assert wanted_form(request(accept, method="GET")) is form


@pytest.mark.parametrize("accept", [None, "*/*", ""])
@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("myfile", Form.BARE_LINES),
        ("inputFile", Form.STEM_LINES),
        ("image_file", Form.JSON),
        ("file", Form.JSON),
    ],
)
def test_two_existing_clients_get_the_lines_that_they_expect(accept, field, form):
    with request(accept, field) as posted:
        assert wanted_form(posted) is form


@pytest.mark.parametrize(
    ("accept", "form"),
    [(BROWSER, Form.HTML), ("application/json", Form.JSON), ("text/plain", Form.STEM_LINES)],
)
def test_what_a_client_says_goes_before_what_its_field_suggests(accept, form):
    with request(accept, "myfile") as posted:
        assert wanted_form(posted) is form


def test_a_link_can_ask_for_json():
    assert wanted_form(request(BROWSER, method="GET", path="/?format=json")) is Form.JSON


def test_another_format_is_refused_with_what_is_right():
    with pytest.raises(BadRequest, match="The format is 'xml', but can only be json"):
        wanted_form(request(BROWSER, method="GET", path="/?format=xml"))


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [
        ("respond-async", True),
        ("Respond-Async", True),
        ("respond-async, wait=10", True),
        ("wait=10, respond-async", True),
        ("respond-async; foo=bar", True),
        ("return=minimal", False),
        ("respond-asynchronously", False),
        ("", False),
    ],
)
def test_prefer_respond_async(prefer, wanted):
    assert wants_async(request(Prefer=prefer)) is wanted


def test_without_prefer_the_client_waits():
    assert not wants_async(request())
