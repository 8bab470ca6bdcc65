"""Answers the hot calls of S3 without what moto's server does around each call.

These are GetObject, HeadObject, PutObject, DeleteObject and ListObjectsV2, as SDKs send them. The methods of
moto's own response class answer them, on moto's own objects. What is left out is Flask, the search for the
operation, and most of the preparation of a request, which cost several times what the operation does. moto
answers each call that asks for more (a copy, a range, a version, a streamed body), or for a bucket that has a
versions, locks or a log.
"""

import re
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

import flask
from moto.core.request import EnvironHeaders
from moto.core.responses import ActionResult
from moto.s3.exceptions import InvalidContinuationToken, S3ClientError
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.utilities.utils import get_partition

from local.s3 import lock

METHODS = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
SIGNED = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request")
S3_HEADERS = re.compile(
    "HTTP_X_AMZ_(DATE|CONTENT_SHA256|SECURITY_TOKEN|CHECKSUM_.*|SDK_CHECKSUM_ALGORITHM|META_.*)"
)
"""The headers of S3 that a call may have."""
LISTING = {"list-type", "prefix", "start-after", "continuation-token", "max-keys", "encoding-type"}
"""The parameters that a listing may have."""
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


def direct_operation(environ: dict[str, Any]) -> str:
    """Returns the operation of a call that `answer` may answer, and an empty string for all others.

    `environ` is the WSGI environment.
    """
    if not SIGNED.search(environ.get("HTTP_AUTHORIZATION", "")) or "HTTP_RANGE" in environ:
        return ""
    if any(name.startswith("HTTP_X_AMZ_") and not S3_HEADERS.fullmatch(name) for name in environ):
        return ""
    method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
    _, key = _bucket_and_key(environ)
    if key and not query:
        return METHODS.get(method, "") if method != "PUT" or _has_simple_body(environ) else ""
    if not key and method == "GET" and "list-type=2" in query:
        asked = parse_qs(query, keep_blank_values=True)
        simple = asked.keys() <= LISTING and asked.get("max-keys", ["1"])[0].isdecimal()
        return "ListObjectsV2" if simple else ""
    return ""


def answer(operation: str, environ: dict[str, Any]) -> flask.Response | None:
    """Returns the response to a call, or None if moto must answer it.

    `operation` is what `direct_operation` returned, and `environ` the WSGI environment.
    """
    call = _Call(operation, environ)
    if not _is_plain(call.backend.buckets.get(call.bucket_name)):
        return None
    if operation == "PutObject":
        length = int(environ["CONTENT_LENGTH"])
        call.body = call.raw_body = environ["wsgi.input"].read(length)
        if len(call.body) < length:  # the caller has died meanwhile
            return flask.Response("<Error><Code>IncompleteBody</Code></Error>", 400, mimetype="text/xml")
    with lock:
        if not _is_plain(call.backend.buckets.get(call.bucket_name)):
            environ["wsgi.input"] = BytesIO(call.body)
            return None
        try:
            reply = call.perform()
        except S3ClientError as error:
            reply = call.serialized(ActionResult(error))
    status, headers, content = call._send_response(reply)
    response = flask.Response(content, status, headers)
    if operation == "HeadObject" and "content-length" in headers:
        response.headers["Content-Length"] = headers["content-length"]
    return response


class _Call(S3Response):
    """A call that moto's response class can answer with what is set here."""

    def __init__(self, operation: str, environ: dict[str, Any]) -> None:
        super().__init__()
        self._operation = operation
        self.bucket_name, self._key = _bucket_and_key(environ)
        self.headers = EnvironHeaders(environ)
        self.querystring = self.data = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        self.body = self.raw_body = b""
        self.uri_match = {}
        self.response_headers = {"server": "amazon.com"}
        signed = SIGNED.search(environ["HTTP_AUTHORIZATION"])
        self.region = signed[1] if signed else self.default_region
        self.partition = get_partition(self.region)
        self.current_account = self.get_current_account()

    def _get_action(self) -> str:
        return self._operation

    def parse_key_name(self) -> str:
        return self._key

    def perform(self) -> Any:
        match self._operation:
            case "GetObject":
                return self.get_object()
            case "PutObject":
                return self.put_object()
            case "DeleteObject":
                return self.delete_object()
            case "HeadObject":
                return self.head_object(self.bucket_name, {}, self._key, self.headers)
        return self.list_objects_v2()

    def list_objects_v2(self) -> Any:
        """Returns what moto's own does, which takes more than a tenth of a millisecond for each object."""
        asked = {name: values[0] for name, values in self.querystring.items()}
        if asked.get("continuation-token") == "":
            raise InvalidContinuationToken()
        bucket = self.backend.get_bucket(self.bucket_name)
        prefix, token = asked.get("prefix", ""), asked.get("continuation-token")
        start_after, most = asked.get("start-after"), int(asked.get("max-keys", 1000))
        keys, truncated, next_token = self.backend.list_objects_v2(
            bucket, prefix, None, token, start_after, most
        )
        encoding = asked.get("encoding-type")
        parts = [
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
            _element("IsTruncated", str(truncated).lower()),
            *(_contents(key, encoding) for key in keys),
            _element("Name", bucket.name),
            _element("Prefix", quote(prefix) if encoding == "url" else prefix),
            _element("MaxKeys", str(most)),
            _element("EncodingType", encoding),
            _element("KeyCount", str(len(keys))),
            _element("NextContinuationToken", next_token),
            _element("StartAfter", None if token else start_after or None),
            "</ListBucketResult>",
        ]
        return 200, dict(self.response_headers), "".join(parts)


def _contents(key: Any, encoding: str | None) -> str:
    return (
        f"<Contents><Key>{escape(key.safe_name(encoding))}</Key>"
        f"<LastModified>{key.last_modified_ISO8601}</LastModified>"
        f"<ETag>{key.etag}</ETag>"
        f"{_element('ChecksumAlgorithm', key.checksum_algorithm or None)}"
        f"<Size>{key.size}</Size><StorageClass>{key.storage_class}</StorageClass></Contents>"
    )


def _element(name: str, text: str | None) -> str:
    if text is None:
        return ""
    return f"<{name}>{escape(text)}</{name}>" if text else f"<{name}/>"


def _bucket_and_key(environ: dict[str, Any]) -> tuple[str, str]:
    path: str = environ["RAW_URI"].partition("?")[0]
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, unquote(key)


def _has_simple_body(environ: dict[str, Any]) -> bool:
    """Returns whether the body is the object, and not a form or a stream of chunks that contains it."""
    streamed = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING")
    form = environ.get("CONTENT_TYPE", "").startswith(FORMS)
    return "CONTENT_LENGTH" in environ and not streamed and not form


def _is_plain(bucket: FakeBucket | None) -> bool:
    """Returns whether a bucket exists and has nothing that must be looked at before a call is answered."""
    if type(bucket) is not FakeBucket:
        return False
    return not (bucket.versioning_status or bucket.object_lock_enabled or bucket.logging)
