"""The replies of the direct calls, beside those of moto to the same calls."""

import hashlib
import http.client
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from zlib import crc32

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from local import s3_direct
from local.endpoint import Endpoint
from tests.support.local_aws import client_of

PHOTO = bytes(range(256)) * 400
ETAG = f'"{hashlib.md5(b"one").hexdigest()}"'
CHANGING = ("date", "last-modified", "x-amzn-requestid")
KEYS = ("photo/1", "photo/10", "photo/2", "a b+c&<d>'\"é/ü%2F", "~x", "trailing/")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def call(
    endpoint: Endpoint, method: str, path: str, body: bytes | Iterator[bytes] = b"", **headers: str
) -> Reply:
    """Makes a call of S3, whose path is encoded and whose headers have underscores for dashes."""
    signed = f"AWS4-HMAC-SHA256 Credential={endpoint.key.id}/20260101/us-east-1/s3/aws4_request, "
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", endpoint._server.port)
    connection.request(method, path, body, {"Authorization": signed} | named)
    reply = connection.getresponse()
    found = Reply(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read())
    connection.close()
    return found


def comparable(reply: Reply) -> Reply:
    """The reply without what is never the same twice, and without the name of the bucket."""
    headers = {
        name: "" if name in CHANGING else value.replace("bymoto", "direct")
        for name, value in reply.headers.items()
    }
    body = re.sub(rb"(?<=<LastModified>)[^<]+|(?<=<RequestId>)[^<]+", b"", reply.body)
    return Reply(reply.status, headers, body.replace(b"bymoto", b"direct"))


class Both:
    """Makes each call twice: of a bucket to which calls are direct, and of an equal one through moto."""

    def __init__(self, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self.endpoint, self._monkeypatch = endpoint, monkeypatch
        self.direct_calls: list[str] = []

    def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> Reply:
        direct = self._made(s3_direct.direct_operation, "direct", method, path, body, headers)
        through_moto = self._made(lambda environ: "", "bymoto", method, path, body, headers)
        assert comparable(direct) == comparable(through_moto)
        return direct

    def _made(
        self, operation: Any, bucket: str, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> Reply:
        def recorded(environ: dict[str, Any]) -> str:
            self.direct_calls.append(operation(environ))
            return self.direct_calls[-1]

        with self._monkeypatch.context() as patched:
            patched.setattr(s3_direct, "direct_operation", recorded)
            headers = {name: value.replace("BUCKET", bucket) for name, value in headers.items()}
            return call(
                self.endpoint, method, f"/{bucket}{path}", body() if callable(body) else body, **headers
            )


@pytest.fixture
def both(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Both:
    endpoint.reset()
    both = Both(endpoint, monkeypatch)
    both("PUT", "")
    both.direct_calls.clear()
    return both


def crc(body: bytes) -> str:
    return b64encode(crc32(body).to_bytes(4)).decode()


def test_an_object_is_written_read_and_deleted_as_by_moto(both: Both) -> None:
    checksum = {"x_amz_sdk_checksum_algorithm": "CRC32", "x_amz_checksum_crc32": crc(PHOTO)}
    for key in map(quote, KEYS):
        written = both("PUT", f"/{key}", PHOTO, content_type="image/jpeg", **checksum)
        assert written.headers["etag"] == f'"{hashlib.md5(PHOTO).hexdigest()}"'
        assert both("GET", f"/{key}", x_amz_checksum_mode="ENABLED").body == PHOTO
        assert both("HEAD", f"/{key}").headers["content-length"] == str(len(PHOTO))
    assert both("DELETE", f"/{quote(KEYS[0])}").status == 204
    assert both("GET", f"/{quote(KEYS[0])}").status == 404
    assert both("HEAD", f"/{quote(KEYS[0])}").status == 404
    assert both("DELETE", f"/{quote(KEYS[0])}").status == 204
    assert set(filter(None, both.direct_calls)) == set(s3_direct.METHODS.values())
    assert both.direct_calls.count("") == len(both.direct_calls) / 2


def test_content_that_has_another_digest_is_not_stored(both: Both) -> None:
    refused = both("PUT", "/photo", PHOTO, content_md5=b64encode(hashlib.md5(b"one").digest()).decode())
    assert refused.status == 400
    assert b"<Code>BadDigest</Code>" in refused.body
    assert both("GET", "/photo").status == 404
    assert (
        both("PUT", "/photo", b"one", content_md5=b64encode(hashlib.md5(b"one").digest()).decode()).status
        == 200
    )


@pytest.mark.parametrize("headers", [
    {"if_none_match": "*"}, {"if_match": ETAG}, {"if_match": ETAG.strip('"')}, {"if_match": '"other"'},
])  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize("stored", [True, False])
def test_conditions_hold_or_fail_as_in_moto(both: Both, method: str, stored: bool, headers: Any) -> None:
    if stored:
        both("PUT", "/lease", b"one")
    both(method, "/lease", b"two" if method == "PUT" else b"", **headers)
    both("GET", "/lease")


def test_of_two_that_write_only_what_is_not_there_the_second_fails(both: Both) -> None:
    assert both("PUT", "/lease", b"one", if_none_match="*").status == 200
    refused = both("PUT", "/lease", b"two", if_none_match="*")
    assert (refused.status, b"<Code>PreconditionFailed</Code>" in refused.body) == (412, True)
    assert both("PUT", "/lease", b"three", if_match=ETAG).status == 200
    assert both("PUT", "/lease", b"four", if_match=ETAG).status == 412
    assert both("GET", "/lease").body == b"three"


@pytest.mark.parametrize("headers", [
    {"x_amz_meta_owner": "me"}, {"cache_control": "no-store", "content_language": "de"},
    {"content_encoding": "gzip"}, {"x_amz_tagging": "a=b"}, {"x_amz_storage_class": "GLACIER"},
    {"x_amz_storage_class": "WRONG"}, {"x_amz_acl": "public-read"},
    {"x_amz_sdk_checksum_algorithm": "SHA256"}, {"content_type": "application/x-www-form-urlencoded"},
    {"x_amz_server_side_encryption": "aws:kms"}, {"x_amz_object_lock_mode": "GOVERNANCE"},
    {"x_amz_copy_source": "/BUCKET/source"}, {"if_modified_since": "Thu, 01 Jan 2026 00:00:00 GMT"},
])  # fmt: skip
def test_what_else_can_be_said_of_an_object_is_kept_as_by_moto(both: Both, headers: dict[str, str]) -> None:
    both("PUT", "/source", b"source")
    both("PUT", "/key", b"one", **headers)
    both("GET", "/key")
    both("HEAD", "/key")


@pytest.mark.parametrize("headers", [
    {"range": "bytes=1-2"}, {"range": "bytes=9-"}, {"if_none_match": ETAG},
    {"if_modified_since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"if_unmodified_since": "Thu, 01 Jan 2015 00:00:00 GMT"},
])  # fmt: skip
def test_an_object_is_read_in_part_or_on_condition_as_by_moto(both: Both, headers: dict[str, str]) -> None:
    both("PUT", "/key", b"one")
    both("GET", "/key", **headers)
    both("HEAD", "/key", **headers)


def test_a_metadata_name_keeps_its_underscore(endpoint: Endpoint, both: Both) -> None:
    for bucket in ("direct", "bymoto"):
        client(endpoint).put_object(Bucket=bucket, Key="key", Body=b"1", Metadata={"my_key": "my value"})
        assert client(endpoint).head_object(Bucket=bucket, Key="key")["Metadata"] == {"my_key": "my value"}


def aws_chunked() -> bytes:
    chunks = b"3\r\none\r\n3\r\ntwo\r\n0\r\n"
    return chunks + b"x-amz-checksum-crc32:" + crc(b"onetwo").encode() + b"\r\n\r\n"


@pytest.mark.parametrize("body", [aws_chunked, lambda: iter([aws_chunked()[:7], aws_chunked()[7:]])])
def test_a_streamed_body_with_a_trailer_is_stored_without_its_frame(both: Both, body: Any) -> None:
    headers = {
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "content_encoding": "aws-chunked",
        "x_amz_trailer": "x-amz-checksum-crc32",
        "x_amz_sdk_checksum_algorithm": "CRC32",
        "x_amz_decoded_content_length": "6",
    }
    assert both("PUT", "/key", body, **headers).status == 200
    assert both("GET", "/key", x_amz_checksum_mode="ENABLED").body == b"onetwo"


def test_a_body_of_unknown_length_is_stored(both: Both) -> None:
    assert both("PUT", "/key", lambda: iter([PHOTO, PHOTO])).status == 200
    assert both("GET", "/key").body == PHOTO * 2


def test_a_bucket_that_is_not_there_or_not_plain_is_left_to_moto(both: Both) -> None:
    assert call(both.endpoint, "GET", "/missing/key").status == 404
    assert call(both.endpoint, "PUT", "/missing/key", b"one").status == 404
    assert call(both.endpoint, "GET", "/missing?list-type=2").status == 404
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    both("PUT", "?versioning", enabled)
    for bucket in ("direct", "bymoto"):
        versions = [call(both.endpoint, "PUT", f"/{bucket}/key", body).headers for body in (b"one", b"two")]
        assert len({reply["x-amz-version-id"] for reply in versions}) == 2
        assert call(both.endpoint, "DELETE", f"/{bucket}/key").headers["x-amz-delete-marker"] == "true"
        assert b"<KeyCount>0<" in call(both.endpoint, "GET", f"/{bucket}?list-type=2").body


TEXTS = st.text("ab/é &<+", max_size=4)


@given(
    keys=st.sets(TEXTS.filter(bool), max_size=12),
    gone=st.sets(TEXTS.filter(bool), max_size=3),
    prefix=st.none() | TEXTS,
    after=st.none() | TEXTS,
    most=st.none() | st.integers(0, 5),
    encoding=st.sampled_from([None, "url"]),
)
def test_a_listing_has_the_pages_that_moto_makes_of_all_keys(
    endpoint: Endpoint, keys: Any, gone: Any, prefix: Any, after: Any, most: Any, encoding: Any
) -> None:
    endpoint.reset()
    with pytest.MonkeyPatch.context() as monkeypatch:
        both = Both(endpoint, monkeypatch)
        both("PUT", "")
        for key in keys:
            both("PUT", f"/{quote(key)}", key.encode())
        for key in gone:
            both("DELETE", f"/{quote(key)}")
        asked = {"prefix": prefix, "start-after": after, "max-keys": most, "encoding-type": encoding}
        query = {"list-type": "2"} | {name: value for name, value in asked.items() if value is not None}
        page = both("GET", f"?{urlencode(query)}")
        assert both.direct_calls[-2:] == ["ListObjectsV2", ""]
        found = page.body.count(b"<Contents>")
        while token := re.search(rb"<NextContinuationToken>(.*)</Next", page.body):
            page = both("GET", f"?{urlencode(query | {'continuation-token': token[1].decode()})}")
            found += page.body.count(b"<Contents>")
        left = [key for key in keys - gone if key.startswith(prefix or "") and key > (after or "")]
        assert found == (0 if most == 0 else len(left))


@pytest.mark.parametrize("query", [
    "list-type=2&delimiter=/", "list-type=2&fetch-owner=true", "list-type=2&continuation-token=",
    "prefix=photo", "versions", "location",
])  # fmt: skip
def test_other_listings_are_as_by_moto(both: Both, query: str) -> None:
    for key in map(quote, KEYS):
        both("PUT", f"/{key}", b"one")
    both("GET", f"?{query}")


def client(endpoint: Endpoint) -> Any:
    session = boto3.Session(*endpoint.key, region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint.url)


def test_what_boto3_sends_is_answered_directly(
    endpoint: Endpoint, both: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def no_moto(*_: Any) -> None:
        raise AssertionError("moto was asked")

    s3, photo = client(endpoint), tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    monkeypatch.setattr(endpoint, "_moto", no_moto)
    with photo.open("rb") as file:
        s3.put_object(Bucket="direct", Key="photo/é 1", Body=file, ContentType="image/jpeg")
    reply = s3.get_object(Bucket="direct", Key="photo/é 1")
    assert (reply["Body"].read(), reply["ContentType"]) == (PHOTO, "image/jpeg")
    assert s3.head_object(Bucket="direct", Key="photo/é 1")["ContentLength"] == len(PHOTO)
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="direct", Key="missing")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="direct", Key="photo/é 1", Body=b"", IfNoneMatch="*")
    [page] = s3.get_paginator("list_objects_v2").paginate(
        Bucket="direct", Prefix="photo/", StartAfter="photo/"
    )
    assert [found["Key"] for found in page["Contents"]] == ["photo/é 1"]
    s3.delete_object(Bucket="direct", Key="photo/é 1")
    assert "Contents" not in s3.list_objects_v2(Bucket="direct")


def test_a_body_that_was_cut_is_no_object(endpoint):
    """As when the process that sends it dies."""
    client_of(endpoint, "s3").create_bucket(Bucket="cut")
    signed = f"AWS4-HMAC-SHA256 Credential={endpoint.key.id}/20260101/us-east-1/s3/aws4_request, "
    with socket.create_connection(("127.0.0.1", endpoint._server.port)) as caller:
        head = (
            f"PUT /cut/key HTTP/1.1\r\nHost: 127.0.0.1:{endpoint._server.port}\r\nAuthorization: {signed}\r\n"
        )
        caller.sendall(f"{head}Content-Length: 10\r\n\r\nhalf".encode())
        caller.shutdown(socket.SHUT_WR)
        assert b"400 BAD REQUEST" in caller.recv(1000).upper()
    assert call(endpoint, "GET", "/cut/key").status == 404
