"""Which model answers: the same version, the same answer to the same bytes."""

from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

from cloud.buckets import Bucket
from cloud.clients import S3Client
from cloud.errors import CloudError
from cloud.settings import WorkerSettings


def model_version(settings: WorkerSettings, s3: S3Client) -> str:
    """Of the model that a worker with these settings loads now, from what MODEL, WEIGHTS and LABELS hold.

    Code and ImageNet's weights are those of the AMI. Controller and worker each find it by themselves: a
    controller that does not see the file that a path of its workers leads to gets another version, or a
    CloudError, as when WEIGHTS or LABELS in S3 cannot be read.
    """
    weights = "imagenet" if settings.weights == "imagenet" else content(settings.weights, s3)
    labels = content(settings.labels, s3) if settings.labels else ""
    parts = [settings.model, weights, labels, settings.ami_id]
    return f"{settings.model}-{sha256(repr(parts).encode()).hexdigest()[:32]}"


def content(source: str, s3: S3Client) -> str:
    """Changes with what the path or `s3://bucket/key` holds. A call to S3, or a look at the file system."""
    if source.startswith("s3://"):
        bucket, _, key = source.removeprefix("s3://").partition("/")
        return Bucket(s3, bucket).etag(key)
    try:
        found = Path(source).stat()
        return digest(source, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError as error:
        raise CloudError(f"{source} cannot be read here: {error}") from error


@lru_cache(8)
def digest(path: str, *_identity: int) -> str:
    """SHA-256 of a file, read once for each identity that the file system gives it."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()
