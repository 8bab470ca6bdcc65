"""What is refused where tokens are set, and how browsers sign in."""

import time
from io import BytesIO
from types import SimpleNamespace

import pytest

from cloud.tokens import ApiToken
from controller.app import create_app
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from controller.web.token_guard import COOKIE, OPEN

TOKEN = "ci-0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
WRONG = {"Authorization": "Bearer 0123456789abcdef"}


def made(*tokens):
    settings = SimpleNamespace(max_files=5, max_upload_mb=1, request_timeout=5, trusted_hosts=())
    return create_app(
        SimpleNamespace(settings=settings, tokens=KnownTokens(tokens), dependencies=Dependencies({}))
    )


@pytest.fixture
def app():
    return made(ApiToken("ci", TOKEN))


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def signed_in(client):
    assert client.post("/sign-in", data={"token": TOKEN}).status_code == 303
    return client


def refused(response):
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in response.text
    return response.json["error"]


def test_without_tokens_nobody_is_asked():
    client = made().test_client()
    assert client.get("/").status_code == 200
    assert client.get("/sign-in").status_code == 404
    assert "Sign out" not in client.get("/").text


def test_every_route_but_probes_static_files_and_sign_in_needs_a_token(app, client):
    asked = 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in OPEN:
            address = rule.build({name: "x" for name in rule.arguments})[1]
            for method in rule.methods:
                response = client.open(address, method=method)
                assert response.status_code == 401, (method, address)
                asked += 1
    assert asked > 10


def test_what_may_be_open_is_open(client):
    for address in ("/healthz", "/readyz", "/static/page.css", "/sign-in"):
        with client.get(address) as response:
            assert response.status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/nowhere",
        "//",
        "//fleet",
        "/fleet/",
        "/./fleet",
        "/static/../fleet",
        "/static/..%2ffleet",
        "/static/%2e%2e/fleet",
        "/static//fleet",
        "/healthz/../fleet",
        "/healthz/",
        "/healthz%2f..%2ffleet",
        "/healthz;/fleet",
        "/FLEET",
        "/%66leet",
        "/sign-in/../fleet",
        "/healthz%00",
        "/fleet%00",
        "/static/..%5cfleet",
        "/static/..%00/fleet",
        "/sign-out",
        "/static",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "TRACE"])
def test_no_way_of_writing_an_address_leads_around_it(client, address, method):
    response = client.open(address, method=method)
    assert response.status_code == 401 or address.startswith("/static/")
    assert '"queue"' not in response.text


def test_a_program_that_sends_the_name_with_its_token_is_told_to_leave_it_out(client):
    error = refused(client.get("/fleet", headers={"Authorization": f"Bearer anna:{TOKEN}"}))
    assert error["code"] == "invalid_token"
    assert "not known here: leave out its name and the colon. Programs send it as" in error["message"]


def test_a_program_without_a_token_is_told_how_to_send_one(client):
    error = refused(client.get("/fleet"))
    assert error["code"] == "unauthorized"
    assert "Authorization: Bearer <token>" in error["message"]
    assert "/sign-in" in error["message"]


@pytest.mark.parametrize(
    "value",
    [
        "Bearer 0123456789abcdef",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}, Bearer x",
        f"Bearer a={TOKEN}",
        "Bearer кот".encode().decode("latin-1"),
        "Bearer " + "x" * 100_000,
        f"Basic {TOKEN}",
        TOKEN,
    ],
)
def test_a_wrong_token_is_refused(client, value):
    response = client.get("/fleet", headers={"Authorization": value})
    assert refused(response)["code"] == "invalid_token"
    assert "invalid_token" in response.headers["WWW-Authenticate"]


def test_the_right_token_is_enough(client):
    assert client.get("/", headers=BEARER).status_code == 200
    assert client.get("/", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert client.get("/nowhere", headers=BEARER).status_code == 404


def test_an_upload_without_a_token_is_refused_unread(client):
    body = BytesIO(b"--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n...\r\n--x--\r\n")
    more = {"content_type": "multipart/form-data; boundary=x", "content_length": 1000}
    refused(client.post("/", input_stream=body, **more))
    assert body.tell() == 0


def test_a_browser_is_led_to_sign_in_and_back(client):
    wanted = "/requests/x/images/0000-100%25%20caf%C3%A9%3F%23.png?a=b%26c&d="
    response = client.get(wanted, headers=HTML)
    assert response.status_code == 303
    form = client.get(response.headers["Location"])
    assert form.status_code == 200
    assert f'value="{wanted.replace("&", "&amp;")}"' in form.text
    response = client.post("/sign-in", data={"token": f" {TOKEN}\n", "next": wanted})
    assert (response.status_code, response.headers["Location"]) == (303, wanted)
    assert client.get("/").status_code == 200


def test_an_address_too_long_to_come_back_to_leads_to_the_start(client):
    response = client.get(f"/?{'%26' * 2000}", headers=HTML)
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in?next=/")


def test_scripts_and_uploads_of_a_browser_are_refused_not_led_away(client):
    assert client.get("/fleet", headers=HTML | {"Sec-Fetch-Mode": "cors"}).status_code == 401
    response = client.post("/", headers=HTML)
    assert (response.status_code, response.mimetype) == (401, "text/html")
    assert "Sign in first" in response.text


def test_the_cookie_is_kept_from_scripts_other_sites_and_plain_connections(client):
    for address, secure in (("http://localhost/", False), ("https://localhost/", True)):
        response = client.post("/sign-in", data={"token": TOKEN}, base_url=address)
        (cookie,) = response.headers.getlist("Set-Cookie")
        assert TOKEN not in cookie
        parts = [part.strip() for part in cookie.split(";")]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)
        assert ("Secure" in parts) is secure


def test_a_wrong_token_in_the_form_is_said_and_nothing_is_set(client):
    for token, said in (
        ("wrong", "not known here."),
        (f"anna:{TOKEN}", "not known here: leave out its name and the colon."),
        ("", "Enter your token"),
        ("é\x00'<b>", "not known here"),
    ):
        response = client.post("/sign-in", data={"token": token, "next": "/fleet"})
        assert response.status_code == 401
        assert said in response.text
        assert 'value="/fleet"' in response.text
        assert "<b>" not in response.text
        assert "Set-Cookie" not in response.headers
    assert client.post("/sign-in").status_code == 401


def test_the_form_takes_no_uploads(client):
    assert client.post("/sign-in", data={"token": "x" * 20_000}).status_code == 413


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "evil.example",
        " //evil.example",
        "/x\r\nSet-Cookie: a=b",
        "/é",
        "",
    ],
)
def test_nobody_is_led_to_another_site(client, wanted):
    response = client.post("/sign-in", data={"token": TOKEN, "next": wanted})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    page = client.get("/sign-in", query_string={"next": wanted}, headers={"Sec-Fetch-Site": "cross-site"})
    assert "evil.example" not in page.text
    assert 'content="0; url=/"' in page.text


def test_who_is_signed_in_comes_through_a_link_on_another_site(signed_in, app):
    """There a browser keeps the cookie back, and sends it with the step that the page then takes itself."""
    stranger = app.test_client()
    link = HTML | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    response = stranger.get("/requests/x", headers=link)
    page = stranger.get(response.headers["Location"], headers=link).text
    assert '<meta http-equiv="refresh" content="0; url=/requests/x">' in page
    own_step = link | {"Sec-Fetch-Site": "same-origin"}
    assert signed_in.get("/", headers=own_step).status_code == 200
    response = stranger.get("/requests/x", headers=own_step)
    assert 'http-equiv="refresh"' not in stranger.get(response.headers["Location"], headers=own_step).text


def test_a_wrong_bearer_token_is_not_made_good_by_a_cookie(signed_in):
    assert signed_in.get("/").status_code == 200
    refused(signed_in.get("/", headers=WRONG))


def test_a_forged_cookie_is_none(client):
    for value in (TOKEN, "", ".", "..", "x.y.z", "é", '"', "a" * 4000):
        client.set_cookie(COOKIE, value)
        refused(client.get("/fleet"))


@pytest.mark.parametrize("others", ["{}; theme=dark", "a=1;b; =;{}", 'x="a, b"; y=é;{} ;', "old_{0}; {0}"])
def test_the_cookie_is_found_among_others(signed_in, app, others):
    cookie = f"{COOKIE}={signed_in.get_cookie(COOKIE).value}"
    client = app.test_client(use_cookies=False)
    assert client.get("/", headers={"Cookie": others.format(cookie)}).status_code == 200
    refused(client.get("/", headers={"Cookie": others.format(f"not_{cookie}")}))


@pytest.mark.parametrize("header", ["bearer {}", "BEARER  {} ", "Bearer {}"])
def test_a_scheme_is_the_same_in_small_and_capital_letters(client, header):
    assert client.get("/", headers={"Authorization": header.format(TOKEN)}).status_code == 200


def test_no_authorization_takes_long_to_read(client):
    """Anybody may send 24 KB of them, which nginx passes on."""
    wrong = {"Authorization": "Digest " + "a*=utf-8''%41," * 1_700}
    began = time.monotonic()
    for _ in range(20):
        refused(client.get("/fleet", headers=wrong))
    assert time.monotonic() - began < 0.2


def test_no_cookies_take_long_to_read(app):
    """Werkzeug reads these for seconds, in which no other thread runs. Anybody may send them."""
    client, slow = app.test_client(use_cookies=False), "a=" + " " * 8_000 + "b c"
    began = time.monotonic()
    refused(client.get("/", headers={"Cookie": ";".join([slow] * 3)}))
    assert time.monotonic() - began < 0.5


def test_signing_out_ends_it(signed_in):
    assert 'action="/sign-out"' in signed_in.get("/").text
    response = signed_in.post("/sign-out")
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    refused(signed_in.get("/"))
