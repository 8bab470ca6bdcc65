"""Forms that are cut, nested, endless, forged or huge, and file names that nobody would choose."""

import io
import time
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder, encode_multipart

from cloud.image_id import ImageId
from controller.web.spool import SpooledRequest

FORM = {"content_type": "multipart/form-data; boundary=x"}
LATER = {"Prefer": "respond-async"}
SECONDS = 5.0  # the longest that any of these may take
BOUNDED = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def client(start):
    app = start(max_upload_mb=1, max_files=5)
    app.extensions["services"].polling.request_timeout = 0.2  # nobody answers
    return app.test_client()


@pytest.fixture
def form(png) -> bytes:
    return encode_multipart({"image_file": [FileStorage(BytesIO(png), f"{n}.png") for n in range(3)]}, "x")[1]


def answered(client, body: bytes, **more):
    """The answer, which is never a fault of the server, and comes in time."""
    began = time.monotonic()
    response = client.post("/", data=body, headers=LATER, **{**FORM, **more})
    assert time.monotonic() - began < SECONDS
    assert response.status_code in (200, 202, 400, 413), response.text
    if response.status_code >= 400:
        assert response.json["error"]["message"]
    return response


@BOUNDED
@given(data=st.data())
def test_a_form_that_is_cut_is_taken_up_to_there_or_refused(client, form, data):
    answered(client, form[: data.draw(st.integers(0, len(form)))])


@BOUNDED
@given(data=st.data())
def test_a_form_with_changed_bytes_is_taken_or_refused(client, form, data):
    changed = bytearray(form)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, min(400, len(form) - 1)))
        changed[place] = data.draw(st.integers(0, 255))
    answered(client, bytes(changed))


@BOUNDED
@given(body=st.binary(max_size=300), boundary=st.text(st.characters(codec="latin-1"), max_size=80))
def test_noise_is_no_form(client, body, boundary):
    kind = f"multipart/form-data; boundary={boundary}".replace("\r", " ").replace("\n", " ")
    answered(client, body, content_type=kind)


@BOUNDED
@given(name=st.text(max_size=300))
def test_every_file_name_becomes_a_well_formed_key(client, png, name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    head = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{quoted}"\r\n\r\n'
    response = answered(client, head.encode(errors="replace") + png + b"\r\n--x--\r\n")
    for image in response.json.get("images", []):
        image_id = ImageId(image["image_id"])
        assert "/" not in image_id.name
        assert "\\" not in image_id.name
        assert len(image_id.encode()) < 1024
        assert not any(ord(c) < 32 for c in image_id)


NAMES = ["../../fleet/state", "..", ".", "/", "C:\\x.png", "a\x00b.png", "-rf", "con", " ", "\u202egnp.exe"]


@pytest.mark.parametrize("name", NAMES)
def test_no_file_name_leads_out_of_its_request(client, png, inputs, name):
    body = encode_multipart({"f": FileStorage(BytesIO(png), name)}, "x")[1]
    request_id = answered(client, body).json["request_id"]
    [key] = inputs.keys("")
    assert key.startswith(f"{request_id}/0000-")
    assert key.count("/") == 1


def test_a_name_that_is_not_in_utf_8_is_said_to_be_wrong(client, png):
    """As curl sends names on many a Windows."""
    body = (
        part("Hund", png) + part("Katze", png).replace(b"Katze", "Kätzchen".encode("latin-1")) + b"--x--\r\n"
    )
    response = answered(client, body)
    assert (response.status_code, response.json["error"]["code"]) == (400, "bad_request")
    assert "is not in UTF-8" in response.json["error"]["message"]


def test_a_form_without_its_boundary_is_said_to_be_damaged(client, png):
    response = answered(client, part("cat", png), content_type="multipart/form-data; boundary=y")
    assert response.json["error"]["message"].startswith("This form cannot be read")


def part(name: str, content: bytes, kind: str = "image/png") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.png"\r\n'
    return f"{head}Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"


def test_a_field_without_a_name_is_refused_in_words(client):
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\nphoto.jpg\r\n--x--\r\n"
    response = answered(client, body)
    assert response.status_code == 400
    assert response.json["error"]["message"].endswith("-F image_file=@photo.jpg")


def test_ten_thousand_parts_are_refused(client, inputs):
    body = b"".join(part(str(n), b"") for n in range(10_000)) + b"--x--\r\n"
    assert answered(client, body).status_code == 413
    assert list(inputs.keys("")) == []


def test_a_form_in_a_form_is_one_file(client, png):
    inner = b"--y\r\n" + part("inner", png)[5:] + b"--y--\r\n"
    body = part("outer", inner, "multipart/mixed; boundary=y") + b"--x--\r\n"
    [image] = answered(client, body).json["images"]
    assert (image["filename"], image["error"]["code"]) == ("outer.png", "not_an_image")


def test_headers_of_a_part_without_end_are_refused(client):
    assert answered(client, b"--x\r\n" + b"A: b\r\n" * 100_000).status_code in (400, 413)


def lines(length: int) -> bytes:
    """A file with header lines of so many bytes, each of which would be an object of its own."""
    return part("cat", b"").replace(b"\r\n\r\n", b"\r\n" + b"ab:\n" * (length // 4) + b"\r\n\r\n")


def field(length: int) -> bytes:
    head = '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\N{GRINNING FACE}'
    return head.encode() + b"a" * length + b"\r\n"


@pytest.mark.parametrize("body", [lines(430_000) * 12, lines(50_000) * 100, field(400_000) * 12])
def test_many_parts_with_much_beside_their_files_take_no_memory_to_speak_of(start, body):
    """5 MB each, which would take 100 MB in the form of objects, for as long as the request waits."""
    client = start(max_upload_mb=10).test_client()
    client.get("/healthz")
    tracemalloc.start()
    try:
        status = answered(client, body + b"--x--\r\n").status_code
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status in (400, 413)
    assert peak < 20_000_000


def test_a_thousand_files_with_the_longest_names_are_read():
    body = b"".join(part("\N{SNOWMAN}" * 255 + str(n), b"x") for n in range(1000)) + b"--x--\r\n"
    with SpooledRequest(EnvironBuilder(method="POST", data=body, **FORM).get_environ()) as posted:
        assert len(list(posted.files.items(multi=True))) == 1000


def test_a_boundary_without_end_takes_no_time(client):
    answered(client, b"--x\r\n\r\n" + b"\r\n--" * 200_000)


@pytest.mark.parametrize("length", [101, 8_000])
def test_a_boundary_that_is_too_long_is_not_searched_for(client, length):
    """The search would compare all of it at each place, and no other thread would run meanwhile."""
    long = f"multipart/form-data; boundary={'-' * (length - 1)}x"
    began = time.monotonic()
    response = answered(client, b"-" * 490_000, content_type=long)
    assert time.monotonic() - began < 1
    assert (response.status_code, response.json["error"]["code"]) == (400, "bad_request")
    assert "at most 100 characters" in response.json["error"]["message"]


@pytest.mark.parametrize("length", [70, 74])
def test_the_longest_boundaries_of_the_standard_and_of_werkzeug_are_taken(client, png, length):
    boundary = "-" * (length - 1) + "x"
    body = encode_multipart({"f": FileStorage(BytesIO(png), "cat.png")}, boundary)[1]
    response = answered(client, body, content_type=f"multipart/form-data; boundary={boundary}")
    assert response.status_code == 202


class Endless(io.RawIOBase):
    """A body that never ends, and counts what was read of it."""

    def __init__(self, beginning: bytes) -> None:
        self.beginning, self.taken = beginning, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        chunk = self.beginning[self.taken : self.taken + len(buffer)] or bytes(len(buffer))
        buffer[: len(chunk)] = chunk
        self.taken += len(chunk)
        assert self.taken < 3_000_000, "more was read than anybody may send"
        return len(chunk)


def test_a_body_without_end_or_length_is_read_no_further_than_the_limit(client):
    """As Gunicorn passes on what comes in chunks."""
    body = Endless(part("cat", b"")[:-2])
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = client.post("/", environ_overrides=chunked | {"wsgi.input": body}, **FORM)
    assert response.status_code == 413


@pytest.mark.parametrize("length", ["0", "1", "100", "999999", "10000000000", "-1", "1e3", "x", "", "٣"])
def test_a_wrong_length_is_taken_or_refused(client, form, length):
    environ = {"CONTENT_LENGTH": length}
    response = client.post("/", input_stream=BytesIO(form), headers=LATER, environ_overrides=environ, **FORM)
    assert response.status_code in (202, 400, 413)
