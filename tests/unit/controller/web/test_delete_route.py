from pydantic import SecretStr

from cloud.image_id import new_request_id
from local.driver import eventually
from tests.support.web_client import BROWSER, page, post

LATER = {"Prefer": "respond-async"}


def test_a_request_is_deleted_by_its_address_however_often_that_is_said(idle, photo, work, inputs, outputs):
    url = post(idle, photo(), headers=LATER).json["url"]
    work()
    eventually(lambda: idle.get(url).json["complete"])
    for _ in range(2):
        response = idle.delete(url)
        assert (response.status_code, response.data) == (204, b"")
    assert list(inputs.keys("")) == list(outputs.keys("")) == []
    eventually(lambda: idle.get(url).status_code == 404)


def test_what_waits_is_not_deleted_and_what_was_cancelled_only_later(idle, photo):
    url = post(idle, photo(), headers=LATER).json["url"]
    refused = idle.delete(url)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")
    idle.post(f"{url}/cancel")
    refused = idle.delete(url)
    assert refused.status_code == 409
    assert int(refused.headers["Retry-After"]) > 0


def test_a_guessed_address_is_not_found(idle):
    assert idle.delete(f"/requests/{new_request_id()}").status_code == 404


def test_the_key_of_a_deleted_request_must_not_be_used_again(idle, photo, work):
    key = {"Idempotency-Key": "cat-1"}
    url = post(idle, photo(), headers=LATER | key).json["url"]
    work()
    eventually(lambda: idle.get(url).json["complete"])
    idle.delete(url)
    eventually(lambda: idle.get(url).status_code == 404)
    assert post(idle, photo(), headers=key).status_code == 410


def test_the_page_says_who_can_see_the_pictures(start, photo):
    token = "ci-0123456789abcdef"
    for tokens, words in (("", "Anyone who has the address can see"), (token, "the address and a token")):
        app = start(api_tokens=SecretStr(tokens))
        headers = LATER | BROWSER | {"Authorization": f"Bearer {token}"}
        assert words in page(post(app.test_client(), photo(), headers=headers))
