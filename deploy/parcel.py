"""How code gets to an instance that has no role, and its log back: by signed addresses in a bucket."""

import secrets
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from cloud.clients import S3Client
from cloud.errors import calling

ROOT = Path(__file__).parent.parent
CODE = ("cloud", "controller", "worker", "deploy", "requirements.txt")
GIVEN = "given"
URLS_LAST = 3600  # seconds


@contextmanager
def temporary_bucket(s3: S3Client, prefix: str) -> Iterator[str]:
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
    """Puts the code there, with the user's own `files` in the folder `given`. The addresses, as variables."""
    with calling("upload the code"):
        s3.upload_fileobj(pack(files), bucket, "code")
        asked: dict[str, Any] = {"Params": {"Bucket": bucket, "Key": "code"}, "ExpiresIn": URLS_LAST}
        code = s3.generate_presigned_url("get_object", **asked)
        asked["Params"] = {"Bucket": bucket, "Key": "log"}
        log = s3.generate_presigned_url("put_object", **asked)
    return {"CODE_URL": code, "LOG_URL": log}


def pack(files: Mapping[str, Path]) -> BytesIO:
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
    with calling("read what ami.sh printed (did the instance reach the internet?)"):
        return str(s3.get_object(Bucket=bucket, Key="log")["Body"].read().decode(errors="replace"))
