"""The buckets of the sources of batches. One of them has some photos with which a batch can be tried."""

from collections.abc import Sequence
from pathlib import Path

from cloud.clients import S3Client
from cloud.errors import calling
from cloud.s3_url import bucket_and_key_of
from cloud.settings import ControllerSettings

EXAMPLES = "examples"
SOURCES = f"s3://photos,s3://{EXAMPLES}"
PICTURES = Path(__file__).parent.parent / "controller" / "static" / "examples"


def source_buckets(settings: ControllerSettings) -> list[str]:
    """Returns the buckets of the sources of batches, each once."""
    return list(dict.fromkeys(bucket_and_key_of(source)[0] for source in settings.batch_sources))


def put_examples(s3: S3Client, buckets: Sequence[str]) -> None:
    """Puts the example pictures of the first page into EXAMPLES, if it is among these buckets.

    Raises CloudError when S3 fails.
    """
    if EXAMPLES in buckets:
        for picture in sorted(PICTURES.glob("*.jpg")):
            with calling(f"put {picture.name} into s3://{EXAMPLES}"):
                s3.put_object(Bucket=EXAMPLES, Key=picture.name, Body=picture.read_bytes())
