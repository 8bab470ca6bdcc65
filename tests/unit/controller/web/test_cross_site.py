"""Pages of other sites and what they may make a visitor's browser do."""

from io import BytesIO

import pytest

OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost:8443"},
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://other.localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://localhost.evil.example"},
    {"Origin": "null"},
]


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


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_page_of_another_site_may_neither_cancel_nor_retry(client, png, action):
    address = post(client, png, {"Prefer": "respond-async"}).headers["Location"]
    response = client.post(f"{address}/{action}", headers=FOREIGN[0])
    assert response.status_code == 403
    assert client.get(address).json["counts"]["waiting"] == 1


def test_a_link_on_another_site_may_lead_here(client):
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
