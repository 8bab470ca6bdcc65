"""Keeps what is in the buckets of the local AWS from one `make run` to the next, as one tar file per bucket.

In a file, each object has its key, its time, and its headers. The key is also its name, but tarfile leaves
out the slash at the end of some names.
"""

import io
import tarfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends

from local import s3

KEY = "key"
"""The header of a tar entry that has the object's key."""
HEADER = "header."
"""What the names of an object's headers begin with in its tar entry."""


class CannotRead(Exception):
    """A file of a bucket is damaged. The message is a sentence."""


def save(folder: Path, buckets: Iterable[str], most_bytes: int) -> int:
    """Writes the objects of each bucket to `<folder>/<bucket>.tar`. Returns how many are left out.

    Of each bucket, at most `most_bytes` are kept, the newest objects first. A file is replaced only when the
    new one is whole. Raises OSError when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    left_out = 0
    with s3.lock:
        for name in buckets:
            objects = _objects(name)
            kept = _newest(objects, most_bytes)
            left_out += len(objects) - len(kept)
            unfinished = folder / f"{name}.tar.unfinished"
            with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
                for stored in kept:
                    _add(archive, stored)
            unfinished.replace(folder / f"{name}.tar")
    return left_out


def load(folder: Path, buckets: Iterable[str]) -> None:
    """Puts the saved objects into the buckets, which must exist. Raises CannotRead when a file is damaged."""
    for name in buckets:
        path = folder / f"{name}.tar"
        if path.exists():
            with s3.lock:
                _load(path, name)


def _backend() -> S3Backend:
    found: S3Backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    return found


def _objects(bucket_name: str) -> list[FakeKey]:
    """Returns the objects of the bucket, the oldest first."""
    bucket: FakeBucket = _backend().get_bucket(bucket_name)
    return sorted(
        (stored for stored in bucket.keys.values() if isinstance(stored, FakeKey)),
        key=lambda stored: stored.last_modified,
    )


def _newest(objects: list[FakeKey], most_bytes: int) -> list[FakeKey]:
    kept: list[FakeKey] = []
    for stored in reversed(objects):
        most_bytes -= stored.size
        if most_bytes < 0:
            break
        kept.append(stored)
    return kept[::-1]


def _add(archive: tarfile.TarFile, stored: FakeKey) -> None:
    data = stored.value
    entry = tarfile.TarInfo(stored.name)
    entry.size = len(data)
    entry.mtime = stored.last_modified.replace(tzinfo=UTC).timestamp()
    headers = {f"{HEADER}{name}": str(value) for name, value in stored.metadata.items()}
    entry.pax_headers = {KEY: stored.name, **headers}
    archive.addfile(entry, io.BytesIO(data))


def _load(path: Path, bucket_name: str) -> None:
    try:
        with tarfile.open(path) as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                data = file.read() if file else b""
                key = entry.pax_headers.get(KEY, entry.name)
                stored = _backend().put_object(bucket_name, key, data, disable_notification=True)
                stored.last_modified = datetime.fromtimestamp(entry.mtime, UTC).replace(tzinfo=None)
                headers = entry.pax_headers.items()
                stored.set_metadata(
                    {name.removeprefix(HEADER): value for name, value in headers if name.startswith(HEADER)}
                )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CannotRead(f"{path} is damaged ({error}). Delete it to start with an empty bucket.") from error
