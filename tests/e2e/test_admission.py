"""The real controller behind the real nginx, where tokens are needed and AWS cannot be reached."""

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest
import requests

from local.__main__ import DEFAULTS
from local.access import AccessKey
from local.driver import free_port
from tests.support import front
from tests.support.front import Nginx
from tests.support.web_client import BROWSER

TOKEN = "tests-0123456789abcdef"
BEARER, WRONG = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}0"}
LARGE = 90_000_000  # bytes, of which one address may send as much eight times at once


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("front")
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", **AccessKey.new().environment()}
    settings = DEFAULTS | nowhere | {"API_TOKENS": f"tests:{TOKEN}", "ALLOW_ANONYMOUS": "off"}
    with (
        front.gunicorn("controller.wsgi:app", folder, **settings),
        front.nginx(folder, free_port()) as nginx,
    ):
        yield nginx


def begin(nginx: Nginx, **headers: str) -> HTTPConnection:
    """Begins to send a large upload."""
    client = HTTPConnection(nginx.address, timeout=10)
    client.putrequest("POST", "/")
    for name, value in {"Content-Length": str(LARGE), **headers}.items():
        client.putheader(name, value)
    client.endheaders(bytes(500_000))
    return client


@pytest.mark.parametrize("headers", [{}, WRONG, {"Cookie": f"signed_in={TOKEN}"}])
def test_the_upload_of_a_stranger_is_refused_unread(nginx: Nginx, headers: dict[str, str]):
    with closing(begin(nginx, **headers)) as client:
        reply = client.getresponse()
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    asked = [line for line in front.read_lines(nginx.folder / "gunicorn.log") if line["method"] == "POST"]
    assert asked == [], "the upload itself never came to the controller"


def test_the_bodies_of_a_stranger_leave_nothing_on_the_disk(nginx: Nginx):
    clients = [begin(nginx) for _ in range(6)]  # nginx may still count those of the test before
    assert {client.getresponse().status for client in clients} == {401}
    assert list((nginx.folder / "client_body").iterdir()) == []
    for client in clients:
        client.close()


def test_a_browser_is_led_to_sign_in_and_comes_in_by_its_cookie(nginx: Nginx):
    with requests.Session() as browser:
        browser.headers.update(BROWSER)
        form = browser.get(nginx.url, timeout=10)
        assert form.url == f"{nginx.url}/sign-in?next=/"
        entered = browser.post(f"{nginx.url}/sign-in", data={"token": TOKEN, "next": "/"}, timeout=10)
        assert entered.url == f"{nginx.url}/"
        assert 'enctype="multipart/form-data"' in entered.text
        assert browser.get(nginx.url, timeout=10).url == f"{nginx.url}/"


def test_who_has_a_token_is_let_in_and_told_that_aws_is_out_of_reach(nginx: Nginx):
    assert requests.get(nginx.url, headers=BEARER, timeout=10).status_code == 200
    assert requests.post(nginx.url, headers=BEARER, timeout=60).status_code == 503
    ready = requests.get(f"{nginx.url}/readyz", timeout=60)
    assert ready.status_code == 503
    assert "127.0.0.1" not in ready.text


def test_another_name_is_refused_also_behind_nginx(nginx: Nginx):
    reply = requests.get(nginx.url, headers=BEARER | {"Host": "rebound.example"}, timeout=10)
    assert (reply.status_code, reply.json()["error"]["code"]) == (421, "unknown_host")


def test_a_page_at_another_port_of_this_machine_may_not_post(nginx: Nginx):
    origin = {"Origin": "http://127.0.0.1:1"}
    assert requests.post(nginx.url, headers=BEARER | origin, timeout=10).status_code == 403
    own = {"Origin": nginx.url}
    assert (
        requests.post(f"{nginx.url}/sign-out", headers=own, timeout=10, allow_redirects=False).status_code
        == 401
    )
    signed = requests.post(f"{nginx.url}/sign-out", headers=BEARER | own, timeout=10, allow_redirects=False)
    assert signed.status_code == 303
