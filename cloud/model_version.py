"""Determines the version of a model. The same version gives the same prediction for the same bytes."""

from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

from cloud.buckets import bucket_and_key
from cloud.clients import S3Client
from cloud.errors import CloudError
from cloud.settings import WorkerSettings


def model_choice(settings: WorkerSettings, s3: S3Client) -> str:
    """Returns text that stands for the model that a worker with these settings would load now.

    It depends on the settings that settings_digest names, and on AMI_ID, because the code and the ImageNet
    weights are those of the AMI. The controller and the workers each compute it. If WEIGHTS or LABELS is a
    path to different files on their hosts, their results differ, and the controller finds no prediction of
    these workers.

    Raises CloudError when WEIGHTS or LABELS cannot be read.
    """
    parts = [settings_digest(settings, s3), settings.ami_id]
    return f"{settings.model}-{sha256(repr(parts).encode()).hexdigest()[:32]}"


def model_version(choice: str, engine: str, precision: str) -> str:
    """Returns the version of a model that a worker has loaded.

    `choice` is the result of model_choice. The worker's processor and what was baked decide which engine and
    precision that is, so one choice may have several versions.
    """
    return f"{choice}-{engine}-{precision}"


def choice_of(version: str) -> str:
    """Returns the choice that the version of a model belongs to."""
    return version.rsplit("-", 2)[0]


def settings_digest(settings: WorkerSettings, s3: S3Client | None) -> str:
    """Returns 32 hex digits that stand for the choice of a model.

    They depend on MODEL, ENGINE and PRECISION, and on the content of WEIGHTS and LABELS. `s3` is needed only
    when one of these is in S3. Raises CloudError when one of them cannot be read.
    """
    weights = "imagenet" if settings.weights == "imagenet" else content_id(settings.weights, s3)
    labels = content_id(settings.labels, s3) if settings.labels else ""
    parts = [settings.model, weights, labels, settings.engine, settings.precision]
    return sha256(repr(parts).encode()).hexdigest()[:32]


def content_id(source: str, s3: S3Client | None) -> str:
    """Returns text that identifies the content of a file or an S3 object: its SHA-256 or its ETag.

    `source` is a path or `s3://bucket/key`. Raises CloudError when it cannot be read.
    """
    if source.startswith("s3://"):
        if s3 is None:
            raise CloudError(f"{source} cannot be read without AWS")
        bucket, key = bucket_and_key(s3, source)
        return bucket.etag(key)
    try:
        found = Path(source).stat()
        return digest(source, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError as error:
        raise CloudError(f"{source} cannot be read here: {error}") from error


@lru_cache(8)
def digest(path: str, *_identity: int) -> str:
    """Returns the SHA-256 of a file as hex digits.

    `_identity` is what the file system says about the file. A file whose identity has not changed is not
    read again, because the result is cached.
    """
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()
