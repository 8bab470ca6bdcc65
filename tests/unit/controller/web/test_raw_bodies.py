"""Images that are the body itself, and what people send with curl by mistake."""

import os
from io import BytesIO

import pytest

from controller.web.spool import IN_MEMORY, Part, SpooledRequest
from tests.support.web_client import post

JPEG_TYPE = {"Content-Type": "image/jpeg"}


@pytest.fixture
def app(start, work):
    """With workers that answer at once: everything is a tabby."""
    app = start(max_upload_mb=2)
    app.extensions["services"].polling.wake_autoscaler = work
    return app


@pytest.fixture
def client(app):
    return app.test_client()


def only_image(response):
    assert response.status_code == 200, response.text
    [image] = response.json["images"]
    return image


def test_the_body_of_a_post_is_an_image(client, jpeg, inputs):
    """`curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' …/`"""
    image = only_image(client.post("/", data=jpeg, headers=JPEG_TYPE))
    assert (image["filename"], image["label"]) == ("unnamed", "tabby")
    assert inputs.read(image["image_id"])[0] == jpeg


@pytest.mark.parametrize("headers", [{}, JPEG_TYPE])
@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/", "unnamed"),
        ("/cat.jpg", "cat.jpg"),
        ("/fleet.jpg", "fleet.jpg"),
        ("/50%25%20犬.jpg", "50% 犬.jpg"),
    ],
)
def test_the_body_of_a_put_is_an_image_with_the_name_in_the_url(client, jpeg, path, kept, headers):
    """`curl -T cat.jpg …/`, which appends the name and states no type."""
    image = only_image(client.put(path, data=jpeg, headers=headers))
    assert (image["filename"], image["label"]) == (kept, "tabby")


@pytest.mark.parametrize(
    ("disposition", "kept"),
    [
        ('attachment; filename="cat.jpg"', "cat.jpg"),
        ("attachment; filename*=UTF-8''%e7%8a%ac.jpg", "犬.jpg"),
        ('attachment; filename="../../x.jpg"', "x.jpg"),
        ("inline", "unnamed"),
        ("!", "unnamed"),
    ],
)
def test_content_disposition_names_the_image(client, jpeg, disposition, kept):
    headers = JPEG_TYPE | {"Content-Disposition": disposition}
    assert only_image(client.post("/", data=jpeg, headers=headers))["filename"] == kept


def test_a_raw_body_has_the_forms_the_waits_and_the_keys_of_a_form(client, jpeg):
    headers = JPEG_TYPE | {"Accept": "text/plain"}
    assert client.put("/cat.jpg", data=jpeg, headers=headers).text == "cat:tabby\n"
    later = client.put("/cat.jpg", data=jpeg, headers={"Prefer": "respond-async"})
    assert (later.status_code, later.headers["Location"]) == (202, later.json["url"])
    first, again = (client.put("/cat.jpg", data=jpeg, headers={"Idempotency-Key": "cat-1"}) for _ in range(2))
    assert first.json["request_id"] == again.json["request_id"]
    other = client.put("/cat.jpg", data=jpeg + b"x", headers={"Idempotency-Key": "cat-1"})
    assert other.status_code == 422


def test_a_raw_body_counts_for_the_quota(start, jpeg):
    client = start(images_per_minute=1).test_client()
    headers = {"Prefer": "respond-async"}
    first, second = (client.put("/cat.jpg", data=jpeg, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 429)
    assert first.headers["RateLimit"].startswith('"images";r=0')


@pytest.mark.parametrize("chunked", [False, True])
def test_a_raw_body_over_the_limit_is_refused(client, inputs, chunked):
    body = BytesIO(bytes(2_000_001))
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {}
    length = None if chunked else 2_000_001
    response = client.put(
        "/cat.jpg", input_stream=body, content_length=length, headers=JPEG_TYPE, environ_overrides=environ
    )
    assert response.status_code == 413
    assert "The upload is too large: at most 2 MB" in response.json["error"]["message"]
    assert list(inputs.keys("")) == []


def test_a_body_that_is_cut_is_no_image_and_leaves_its_key_to_the_whole_one(client, jpeg, inputs):
    """Gunicorn takes what came before the connection broke for the whole body."""
    headers = JPEG_TYPE | {"Idempotency-Key": "cat-1"}
    cut = client.put(
        "/cat.jpg",
        input_stream=BytesIO(jpeg[: len(jpeg) // 2]),
        headers=headers,
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(jpeg))},
    )
    assert (cut.status_code, cut.json["error"]["code"]) == (400, "bad_request")
    assert list(inputs.keys("")) == []
    whole = only_image(client.put("/cat.jpg", data=jpeg, headers=headers))
    assert inputs.read(whole["image_id"])[0] == jpeg


@pytest.mark.parametrize(("size", "kind"), [(1000, BytesIO), (IN_MEMORY + 1, Part)])
def test_only_a_small_raw_body_stays_in_memory(app, jpeg, size, kind, monkeypatch):
    streams, get_stream = [], SpooledRequest._get_file_stream

    def note(request, *arguments, **more):
        streams.append(get_stream(request, *arguments, **more))
        return streams[-1]

    monkeypatch.setattr(SpooledRequest, "_get_file_stream", note)
    app.test_client().put("/cat.jpg", data=jpeg + os.urandom(size), headers={"Prefer": "respond-async"})
    assert [type(stream) for stream in streams] == [kind]
    assert streams[0].closed


# Mistakes


@pytest.mark.parametrize("size", [10, 900_000])  # more than Flask takes of a form that has no files
def test_a_photo_that_is_sent_as_a_form_gets_the_right_command(client, size):
    """`curl -d @cat.jpg …/`, or `--data-binary` without a type."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/", data=os.urandom(size), headers=form)
    assert (response.status_code, response.json["error"]["code"]) == (400, "no_file")
    message = response.json["error"]["message"]
    assert "a body of the type application/x-www-form-urlencoded is not taken for one" in message
    assert "curl -T cat.jpg http://localhost/" in message


def test_a_file_name_without_its_at_sign_gets_a_hint(client):
    """`curl -F image_file=cat.jpg …/`"""
    response = client.post("/", data={"image_file": "photos/my cat.jpg"}, content_type="multipart/form-data")
    assert (response.status_code, response.json["error"]["code"]) == (400, "no_file")
    message = response.json["error"]["message"]
    assert "Put @ before the file name: -F 'image_file=@photos/my cat.jpg'" in message


@pytest.mark.parametrize("address", ["https://example.org/cat.jpg", "s3://photos/cat.jpg"])
def test_the_address_of_a_file_is_not_taken_for_its_name(client, address):
    """`curl -F image_file=https://example.org/cat.jpg …/`"""
    form = {"image_file": address}
    message = client.post("/", data=form, content_type="multipart/form-data").json["error"]["message"]
    assert message == "No file came with the request, only its address. Download the file, and send it."


@pytest.mark.parametrize("text", ["hello", "two\nlines.jpg", "x" * 300 + ".jpg", "'; rm.jpg"])
def test_other_text_in_a_form_gets_no_command(client, text):
    response = client.post("/", data={"comment": text}, content_type="multipart/form-data")
    assert response.status_code == 400
    assert "Put @" not in response.text


def test_a_lone_file_that_is_no_picture_is_answered_like_any_other(client, photo):
    codes = {b"": "empty_file", b"milk, bread": "not_an_image", b"PK\3\4": "unsupported_format"}
    for content, code in codes.items():
        responses = [post(client, photo("notes.txt", content)), client.put("/notes.txt", data=content)]
        for image in map(only_image, responses):
            assert (image["status"], image["error"]["code"]) == ("failed", code)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_body_is_no_file(client, method):
    response = client.open("/", method=method)
    assert (response.status_code, response.json["error"]["code"]) == (400, "no_file")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_there_is_already_is_not_the_name_of_a_file(client, jpeg, method):
    response = client.open("/fleet", method=method, data=jpeg)
    assert response.status_code == 405
    assert "PUT" not in response.headers["Allow"]
    assert "PUT" not in client.options("/fleet").headers["Allow"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_an_address_that_could_be_a_file_name_exists_only_for_put(client, method):
    response = client.open("/nowhere", method=method)
    assert response.status_code == 404
    assert response.json["error"]["message"] == "There is nothing at /nowhere."


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [("/fleet/", ", but at /fleet"), ("/requests/x/", ", but at /requests/x"), ("/nowhere/", "")],
)
def test_an_address_with_a_slash_too_many_gets_the_one_without(client, address, elsewhere):
    response = client.get(address)
    assert response.status_code == 404
    assert response.json["error"]["message"] == f"There is nothing at {address}{elsewhere}."
