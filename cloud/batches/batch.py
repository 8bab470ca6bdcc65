"""A batch, its manifests and its rows: what is stored about images that lie in a bucket of the user."""

from datetime import datetime

from pydantic import BaseModel, Field

from cloud.batches.slice import MANIFEST_IMAGES, MOST_MANIFESTS, Slice
from cloud.clock import now
from cloud.prediction import MOST_LABELS, Answer, Label
from cloud.s3_url import bucket_and_key_of

SLICE_IMAGES = 250
"""The most images in one slice."""
SLICES = 100
"""A batch has at least about as many slices, so that the death of a worker repeats at most 1% of it."""
SMALLEST_SLICE = 10
"""The images of a slice, however small the batch is."""
MOST_IMAGES = MANIFEST_IMAGES * MOST_MANIFESTS
MOST_TOP_K = MOST_LABELS
DEFAULT_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif",
)  # fmt: skip


class Batch(BaseModel, frozen=True):
    """What was asked. It is written once, as `batches/<batch-id>/batch.json` in the state bucket."""

    batch_id: str
    source: str
    """`s3://bucket/prefix`: all objects whose keys begin with the prefix."""
    name: str = ""
    client: str = ""
    """The name of the token with which it was asked for, or "" without tokens."""
    suffixes: tuple[str, ...] = DEFAULT_SUFFIXES
    """The ends of the keys that are images, in any case. Empty: all objects are."""
    limit: int | None = Field(None, ge=1)
    """The most images, or None for all, up to MOST_IMAGES."""
    top_k: int = Field(5, ge=1, le=MOST_TOP_K)
    """How many labels each row has."""
    deadline: datetime | None = None
    budget: float | None = Field(None, gt=0)
    """Dollars that it may cost, about."""
    requester_pays: bool = False
    """Whether the caller pays for the calls, as some buckets demand."""
    spot: bool | None = None
    """Whether the instances that are launched for it should be spot instances. None: MARKET decides."""
    created_at: datetime = Field(default_factory=now)

    @property
    def bucket(self) -> str:
        return bucket_and_key_of(self.source)[0]

    @property
    def prefix(self) -> str:
        return bucket_and_key_of(self.source)[1]


class ListedImage(BaseModel, frozen=True):
    """An image of a batch, as ListObjectsV2 showed it."""

    key: str
    etag: str
    size: int
    """Bytes."""
    archived: bool = False
    """Whether S3 must restore the object before it can be read (Glacier)."""


class Manifest(BaseModel, frozen=True):
    """Up to MANIFEST_IMAGES images of a batch, in the order of their keys.

    It is written once, as `batches/<batch-id>/manifests/<number>.json` in the state bucket.
    """

    images: tuple[ListedImage, ...]
    others: int = 0
    """The objects that are no images, since those of the manifest before."""
    truncated: bool = False
    """Whether it is the last one because there are more images than the limit of the batch."""


class Listed(BaseModel, frozen=True):
    """What the whole listing of a batch has found.

    It is written once, as `batches/<batch-id>/listed.json` in the state bucket.
    """

    images: int
    manifests: int
    bytes: int
    other_objects: int = 0
    """The objects under the prefix that are no images by their suffixes."""
    truncated: bool = False
    """Whether there are more images than the limit of the batch, or than MOST_IMAGES."""
    failure: str = ""
    """Why the listing ended early, in words, or "" if it did not."""


class Round(BaseModel, frozen=True):
    """What is tried again in a round after the first one.

    It is written once, as `batches/<batch-id>/round-<number>.json` in the state bucket.
    """

    images: int
    parts: tuple[Slice, ...]
    """The images, as one slice for each manifest that has some of them."""
    asked_at: datetime = Field(default_factory=now)


class Row(Answer, frozen=True):
    """The result for one image of a batch: one line of JSON in a result object."""

    position: int = Field(ge=0)
    """The position of the image in its manifest."""
    key: str
    predictions: tuple[Label, ...] = Field((), max_length=MOST_TOP_K)
    """The `top_k` labels with the highest confidences, in descending order."""
