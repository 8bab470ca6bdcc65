"""Sends code to an instance that has no role, and gets its log back, by presigned URLs of a bucket."""

import secrets
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from botocore.config import Config

from cloud.clients import S3Client
from cloud.errors import calling

ROOT = Path(__file__).parent.parent
CODE = ("cloud", "controller", "worker", "deploy", "requirements.txt")
GIVEN = "given"  # the folder of the user's files
URLS_LAST = 3600  # seconds until the URLs expire
# By default, boto3 signs URLs of s3.amazonaws.com. Outside us-east-1, that redirects requests for a new
# bucket to its region for a while, where the signature is not valid.
SIGNED = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
"""The configuration of the client that signs the URLs: they lead to the region of the bucket."""


@contextmanager
def temporary_bucket(s3: S3Client, prefix: str) -> Iterator[str]:
    """Creates a bucket, yields its name, and deletes it with everything in it at the end of the block."""
    name, region = f"{prefix}-{secrets.token_hex(8)}", s3.meta.region_name
    where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with calling(f"make the bucket {name}"):
        s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else where))
    try:
        yield name
    finally:
        with calling(f"delete the bucket {name}"):
            for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
                s3.delete_object(Bucket=name, Key=item["Key"])
            s3.delete_bucket(Bucket=name)


def send(s3: S3Client, bucket: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Uploads the code, with the user's `files` and folders in the folder `given`.

    Returns two environment variables for the instance: CODE_URL, from which it downloads the code, and
    LOG_URL, to which it uploads its log.
    """
    with calling("upload the code"):
        s3.upload_fileobj(pack(files), bucket, "code")
        asked: dict[str, Any] = {"Params": {"Bucket": bucket, "Key": "code"}, "ExpiresIn": URLS_LAST}
        code = s3.generate_presigned_url("get_object", **asked)
        asked["Params"] = {"Bucket": bucket, "Key": "log"}
        log = s3.generate_presigned_url("put_object", **asked)
    return {"CODE_URL": code, "LOG_URL": log}


def pack(files: Mapping[str, Path]) -> BytesIO:
    """Returns the code and the user's `files` and folders as a compressed tar archive."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        unwanted = ("__pycache__", ".terraform", "terraform.tfstate")
        return None if Path(member.name).name.startswith(unwanted) else member

    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in CODE:
            tar.add(ROOT / name, name, filter=wanted)
        for name, path in files.items():
            tar.add(path, f"{GIVEN}/{name}")
    stream.seek(0)
    return stream


def read_log(s3: S3Client, bucket: str) -> str:
    """Returns the log that the instance has uploaded. Raises CloudError when there is none."""
    with calling("read the log of ami.sh (could the instance reach the internet?)"):
        return str(s3.get_object(Bucket=bucket, Key="log")["Body"].read().decode(errors="replace"))
