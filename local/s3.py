"""Makes moto handle one S3 call at a time, because its S3 is not thread-safe, and corrects the rest.

moto checks a condition (If-Match, If-None-Match) before it writes and takes no lock, so two writers can both
succeed. It may also read an object that another thread has closed, or compute an ETag while two threads read
the same file in turns. For each page of a listing, it would copy and sort all keys of the bucket. It would
store an object whose content does not have the digest that the header Content-MD5 gives. It applies the
statements of a bucket policy without their conditions, so one that asks for TLS would refuse everything.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import functools
import threading
from base64 import b64encode
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from hashlib import md5
from itertools import islice
from typing import Any

import moto.s3.models
from moto.iam.access_control import PermissionResult
from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeBucket, FakeKey, S3Backend
from moto.s3.responses import S3Response
from moto.s3.utils import _VersionedKeyStore

# moto calls these once the body of a request has been read, so a slow upload does not hold the lock.
RESPONSES = {name: getattr(S3Response, name) for name in ("_bucket_response", "_key_response")}

lock = threading.Lock()
"""Is held during each S3 call."""


class SortedKeys(_VersionedKeyStore):
    """The objects of a bucket by key, as moto keeps them, with the keys also in sorted order."""

    def __init__(self) -> None:
        super().__init__()
        self._sorted: list[str] = []

    def __setitem__(self, key: str, value: Any) -> None:
        self._place(key)
        super().__setitem__(key, value)

    def setlist(self, key: str, list_: Any) -> None:
        self._place(key)
        super().setlist(key, list_)

    def pop(self, key: str) -> None:  # type: ignore[override]
        super().pop(key)
        del self._sorted[bisect_left(self._sorted, key)]

    def after(self, prefix: str, last: str) -> Iterator[FakeKey]:
        """Yields in sorted order the objects whose keys begin with `prefix` and sort after `last`."""
        start = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, last))
        for position in range(start, len(self._sorted)):
            key = self._sorted[position]
            if not key.startswith(prefix):
                return
            if isinstance(stored := self[key], FakeKey):  # and not the marker of a deleted one
                yield stored

    def _place(self, key: str) -> None:
        if key not in self:
            insort(self._sorted, key)


list_all = S3Backend.list_objects_v2


def list_sorted(
    self: S3Backend,
    bucket: FakeBucket,
    prefix: str | None,
    delimiter: str | None,
    continuation_token: str | None,
    start_after: str | None,
    max_keys: int,
) -> Any:
    """Does what `S3Backend.list_objects_v2` does, but looks only at the keys that it returns."""
    last = self._pagination_tokens.get(continuation_token) if continuation_token else start_after or ""
    if delimiter or last is None or not isinstance(bucket.keys, SortedKeys):
        return list_all(self, bucket, prefix, delimiter, continuation_token, start_after, max_keys)
    return self._truncate_result(list(islice(bucket.keys.after(prefix or "", last), max_keys + 1)), max_keys)


put_object = S3Response.put_object


def put_checked(self: S3Response) -> Any:
    """Does what `S3Response.put_object` does, but refuses content that does not have its Content-MD5."""
    digest = self.headers.get("Content-MD5")
    self.backend.get_bucket(self.bucket_name)  # raises an exception when it is missing
    if digest and digest != b64encode(md5(self.body or b"", usedforsecurity=False).digest()).decode():
        raise S3ClientError("BadDigest", "The Content-MD5 you specified did not match what we received.")
    return put_object(self)


def _locked(response: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(response)
    def answer(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return response(*args, **kwargs)

    return answer


def permit(self: FakeBucket, action: str, resource: str) -> PermissionResult:
    """Leaves every decision to IAM, which is not enforced here either."""
    return PermissionResult.NEUTRAL


def mend_moto() -> None:
    """Replaces the response methods of moto's S3, and how it keeps the keys. May be called more than once."""
    for name, response in RESPONSES.items():
        setattr(S3Response, name, _locked(response))
    moto.s3.models._VersionedKeyStore = SortedKeys  # type: ignore[assignment, misc]
    S3Backend.list_objects_v2 = list_sorted  # type: ignore[method-assign]
    S3Response.put_object = put_checked  # type: ignore[method-assign]
    FakeBucket.get_permission = permit  # type: ignore[method-assign]
