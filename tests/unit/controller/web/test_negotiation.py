import time
from io import BytesIO

import pytest
from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest
from werkzeug.test import EnvironBuilder

from controller.web.negotiation import PAGE, Form, Preferences, preferences, wanted_form

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
        ("text/csv", Form.CSV),
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


def test_an_accept_that_takes_long_to_parse_counts_as_none():
    """Whoever has no token may send one of 30 KB, which would take a hundred times as long as all else."""
    assert wanted_form(request("text/html," + "a/b," * 7500)) is Form.JSON
    assert wanted_form(request("text/html," + "a/a;b=c," * 110)) is Form.JSON
    assert wanted_form(request("text/html," + "a/b," * 20)) is Form.HTML


def test_blanks_in_an_accept_take_no_time():
    """Werkzeug would take the square of their number."""
    posted, began = request("text/html, a/" + " " * 980 + "b"), time.monotonic()
    assert [wanted_form(posted) for _ in range(100)] == [Form.HTML] * 100
    assert time.monotonic() - began < 0.2


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
        ("respond-async", Preferences(True, None)),
        ("Respond-Async", Preferences(True, None)),
        ("respond-async; foo=bar", Preferences(True, None)),
        ("respond-async, wait=10", Preferences(True, 10)),
        ("wait=10, respond-async", Preferences(True, 10)),
        ("wait=10", Preferences(False, 10)),
        ('Wait = "10"; foo="a, wait=3"', Preferences(False, 10)),
        ('foo="a, respond-async, wait=3", wait=4', Preferences(False, 4)),
        ("wait=0", Preferences(False, 0)),
        ("wait=007", Preferences(False, 7)),
        ("wait=5, wait=9", Preferences(False, 5)),
        ("wait=soon, wait=9", Preferences(False, None)),
        ("wait=301", Preferences(False, 300)),
        (f"wait={'9' * 5000}", Preferences(False, 300)),
        ("wait", Preferences(False, None)),
        ("wait=", Preferences(False, None)),
        ("wait=-1", Preferences(False, None)),
        ("wait=1.5", Preferences(False, None)),
        ("wait=٣", Preferences(False, None)),
        ('wait="10', Preferences(False, None)),
        ("return=minimal", Preferences(False, None)),
        ("respond-asynchronously", Preferences(False, None)),
        ('"respond-async"', Preferences(False, None)),
        (", ,;=,=;,", Preferences(False, None)),
        ("", Preferences(False, None)),
    ],
)
def test_preferences(prefer, wanted):
    assert preferences(request(Prefer=prefer), 300) == wanted


def test_several_headers_are_one_list():
    headers = Headers([("Prefer", "foo"), ("Prefer", "wait=5"), ("Prefer", "respond-async, wait=9")])
    made = Request(EnvironBuilder("/", headers=headers).get_environ())
    assert preferences(made, 300) == Preferences(True, 5)


def test_without_prefer_the_client_waits():
    assert preferences(request(), 300).patience(otherwise=305) == 305


@pytest.mark.parametrize(
    ("wanted", "complete", "waits"),
    [
        (Preferences(True, None), "respond-async", "respond-async"),
        (Preferences(True, 10), "wait=10", "respond-async, wait=10"),
        (Preferences(False, 10), "wait=10", "wait=10"),
        (Preferences(False, None), "", ""),
    ],
)
def test_what_was_honoured_is_said(wanted, complete, waits):
    assert wanted.applied(waits=False) == complete
    assert wanted.applied(waits=True) == waits


@pytest.mark.parametrize(("path", "form"), [("/?format=csv", Form.CSV), ("/?format=json", Form.JSON)])
def test_a_link_can_say_its_form(path, form):
    assert wanted_form(request(BROWSER, method="GET", path=path)) is form


def test_what_has_no_rows_has_no_csv():
    assert wanted_form(request("text/csv"), PAGE) is Form.JSON
    with pytest.raises(BadRequest, match=r"can only be json\."):
        wanted_form(request(path="/?format=csv"), PAGE)
