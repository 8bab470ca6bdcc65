import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import file_digest, sha256
from io import BytesIO

import pytest
from flask import Flask, request
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder, encode_multipart

from controller.web.spool import IN_MEMORY, Part, Spool, SpooledRequest
from tests.support.pictures import picture


@pytest.fixture
def spool():
    spool = Spool()
    yield spool
    spool.file.close()


def part_with(spool: Spool, *chunks: bytes) -> Part:
    part = spool.part()
    for chunk in chunks:
        part.write(chunk)
    return part


def test_each_part_has_its_own_bytes_and_position(spool):
    first, second = part_with(spool, b"abc", b"def"), part_with(spool, b"ghi")
    for part, expected in ((first, b"abcdef"), (second, b"ghi")):
        part.seek(0)
        assert part.read() == expected
        assert part.read() == b""
        assert part.seek(-2, os.SEEK_END) == len(expected) - 2
        assert part.read(1) == expected[-2:-1]
        assert part.seek(-1, os.SEEK_CUR) == len(expected) - 2
        assert part.tell() == len(expected) - 2


def test_a_part_is_a_file_for_those_who_read_it(spool):
    before = part_with(spool, b"something else")
    data = picture("PNG")
    part = part_with(spool, data)
    part.seek(0)
    assert file_digest(part, "sha256").hexdigest() == sha256(data).hexdigest()
    part.seek(0)
    assert Image.open(part).format == "PNG"
    before.close()


def test_many_threads_read_their_parts_at_once(spool):
    bodies = [bytes([number]) * 100_000 for number in range(50)]
    parts = [part_with(spool, body) for body in bodies]

    def read(part: Part) -> bytes:
        part.seek(0)
        return b"".join(iter(lambda: part.read(1000), b""))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, parts)) == bodies


def test_the_file_is_gone_with_its_last_part(spool):
    parts = [part_with(spool, b"abc") for _ in range(2)]
    parts[0].close()
    parts[0].close()
    assert not spool.file.closed
    parts[1].close()
    assert spool.file.closed


@pytest.mark.parametrize(("size", "kind"), [(1000, BytesIO), (IN_MEMORY, Part)])
def test_only_small_requests_stay_in_memory(size, kind):
    app = Flask(__name__)
    app.request_class = SpooledRequest
    bodies = [os.urandom(size), b"", os.urandom(size)]
    files = [FileStorage(BytesIO(body), f"{number}.png") for number, body in enumerate(bodies)]
    seen = []

    @app.post("/")
    def receive() -> str:
        files = request.files.getlist("image_file")
        seen.extend((type(file.stream), file.filename, file.read()) for file in files)
        return ""

    boundary, body = encode_multipart({"image_file": files})
    app.test_client().post("/", data=body, content_type=f"multipart/form-data; boundary={boundary}")
    assert seen == [(kind, f"{number}.png", body) for number, body in enumerate(bodies)]


def test_a_full_disk_loses_no_byte_and_is_told_as_507(start, png, monkeypatch):
    """A disk that is nearly full takes a part of what is written."""
    room = [1000]

    def pwrite(descriptor, data, offset, write=os.pwrite):
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(len(data), room[0])
        room[0] -= taken
        return write(descriptor, data[:taken], offset)

    monkeypatch.setattr("controller.web.spool.os.pwrite", pwrite)
    photo = FileStorage(BytesIO(png + bytes(2 * IN_MEMORY)), "a.png")
    body = encode_multipart({"image_file": photo}, "x")[1]
    more = {"content_type": "multipart/form-data; boundary=x", "headers": {"Prefer": "respond-async"}}
    client = start(max_upload_mb=5).test_client()
    response = client.post("/", data=body, **more)
    assert (response.status_code, response.json["error"]["code"]) == (507, "insufficient_storage")
    assert response.headers["Retry-After"] == "60"
    room[0] = 10_000_000
    assert client.post("/", data=body, **more).status_code == 202


@pytest.mark.parametrize("size", [400_000, 600_000])  # two of them stay in memory together, or do not
def test_no_upload_is_held_while_its_request_waits(start, png, size, monkeypatch):
    app, streams, open_while_waiting = start(max_upload_mb=5), [], []
    get_stream = SpooledRequest._get_file_stream

    def note(request, *arguments, **more):
        streams.append(get_stream(request, *arguments, **more))
        return streams[-1]

    @contextmanager
    def about_to_wait():
        open_while_waiting.append([stream for stream in streams if not stream.closed])
        yield False

    monkeypatch.setattr(SpooledRequest, "_get_file_stream", note)
    app.extensions["services"].wait_limits.of_request = about_to_wait
    files = [FileStorage(BytesIO(png + bytes(size + n)), f"{n}.png") for n in range(2)]
    body = encode_multipart({"image_file": files}, "x")[1]
    form = "multipart/form-data; boundary=x"
    assert app.test_client().post("/", data=body, content_type=form).status_code == 202
    assert len(streams) == 2
    assert open_while_waiting == [[]]


@pytest.mark.parametrize("chunk", range(1, 60))
def test_a_file_is_the_same_wherever_the_form_is_cut_while_it_is_read(monkeypatch, chunk):
    monkeypatch.setattr("controller.web.form_parser.CHUNK_BYTES", chunk)
    contents = [
        b"",
        b"a",
        b"a\r",
        b"\n",
        b"\r\n",
        b"\n\r",
        b"-",
        b"a\r\n--",
        b"\r\n--en",
        b"a--end",
        b"-end--",
    ]
    head = b'--end\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
    body = b"".join(head + content + b"\r\n" for content in contents) + b"--end--\r\n"
    kind = "multipart/form-data; boundary=end"
    form = EnvironBuilder(method="POST", input_stream=BytesIO(body), content_type=kind)
    files = SpooledRequest(form.get_environ()).files.getlist("f")
    assert [file.stream.read() for file in files] == contents
