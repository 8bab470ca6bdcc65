"""Pages of other sites and what they may make a visitor's browser do."""

from io import BytesIO

import pytest

OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},
    {"Host": "localhost:8443", "Origin": "https://localhost:8443"},
    {"Host": "localhost:80", "Origin": "http://localhost"},
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://other.localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://localhost.evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Origin": "https://localhost:8443"},
    {"Host": "localhost:8000", "Origin": "http://localhost:9999"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    {"Origin": "http://[broken"},
    {"Origin": "http://localhost:99999"},
    {"Origin": ""},
]
FORM = b"--x\r\nContent-Disposition: form-data; name=image_file; filename=cat.png\r\n\r\n...\r\n--x--\r\n"


def post(client, png, headers):
    return client.post("/", data={"image_file": (BytesIO(png), "cat.png")}, headers=headers)


@pytest.fixture
def client(start):
    return start(request_timeout=1).test_client()


@pytest.mark.parametrize("headers", OWN)
def test_own_pages_and_programs_may_post(client, png, headers):
    headers = {**headers, "Prefer": "respond-async"}
    assert post(client, png, headers).status_code == 202


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_may_not_post(client, inputs, png, headers):
    response = post(client, png, headers)
    assert response.status_code == 403
    assert response.json["error"]["code"] == "cross_site"
    assert list(inputs.keys("")) == []


@pytest.mark.parametrize("headers", [*FOREIGN, {"Host": "evil.example"}])
def test_what_a_page_of_another_site_sends_is_not_read(start, headers):
    client, body = start(trusted_hosts=("localhost",)).test_client(), BytesIO(FORM)
    form = {"content_type": "multipart/form-data; boundary=x", "content_length": len(FORM)}
    assert client.post("/", input_stream=body, headers=headers, **form).status_code in (403, 421)
    assert body.tell() == 0


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_page_of_another_site_may_neither_cancel_nor_retry(client, png, action):
    address = post(client, png, {"Prefer": "respond-async"}).headers["Location"]
    response = client.post(f"{address}/{action}", headers=FOREIGN[0])
    assert response.status_code == 403
    assert client.get(address).json["counts"]["waiting"] == 1


def test_a_link_on_another_site_may_lead_here(client):
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    "how",
    [
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"},
    ],
)
@pytest.mark.parametrize("address", ["/", "/fleet", "/requests/x/images/0000-cat.png", "/readyz"])
def test_a_page_of_another_site_may_load_nothing_from_here(client, site, how, address):
    """Neither does it learn from the time that an answer takes, nor does it make AWS be asked."""
    assert client.get(address, headers={"Sec-Fetch-Site": site, **how}).status_code == 403


@pytest.mark.parametrize(
    "host", ["rebound.example", "10.0.0.7", "photos.example.evil.example", "", "a b", "é"]
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_is_none_of_ours_is_refused(start, host, accept, method):
    client = start(trusted_hosts=("photos.example",)).test_client()
    headers = {"Host": host.encode().decode("latin-1"), "Accept": accept}
    response = client.open("/", method=method, headers=headers)
    assert response.status_code == 421
    assert "unknown_host" in response.text


@pytest.mark.parametrize("host", ["photos.example", "photos.example:8443", "127.0.0.1:8000", "localhost"])
def test_our_own_names_are_taken_with_any_port(start, host):
    client = start(trusted_hosts=("photos.example",)).test_client()
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_a_name_is_the_same_in_small_and_capital_letters(start):
    client = start(trusted_hosts=("photos.example",)).test_client()
    assert client.get("/", headers={"Host": "Photos.Example"}).status_code == 200


def test_a_load_balancer_may_look_by_any_name(start):
    client = start(trusted_hosts=("photos.example",)).test_client()
    assert client.get("/healthz", headers={"Host": "10.0.0.7"}).status_code == 200
