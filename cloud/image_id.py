"""The image-id `<request-id>/<nnnn>-<file name>`, which the controller assigns to every uploaded file.

It is the key of the image in the input bucket, the body of its message, and the key of its prediction in the
output bucket. All keys of a request begin with its request-id, so one call of ListObjectsV2 for each 1,000
images finds the predictions of a request.

A request-id has 32 hex digits: the shard of the process that took the request in 6, the time in seconds since
1970 in 8, and 72 random bits in 18, of which the controller replaces the last 24 by a MAC. The shard spreads
the keys of several processes over the partitions of S3, and lets each process list its own requests alone.
Those of one process are in the order of their arrival, to the second.
"""

import re
import secrets
import unicodedata
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from cloud.clock import now
from cloud.s3_url import is_key

SHARD_DIGITS, TIME_DIGITS = 6, 8
REQUEST_ID = re.compile(r"[0-9a-f]{32}")
IMAGE_ID = re.compile(r"(?P<request_id>[0-9a-f]{32})/(?P<name>(?P<number>\d{4,})-(?P<filename>[^/]+))")
MAX_FILENAME_BYTES = 255  # an S3 key may have 1,024 bytes
MAX_SUFFIX_BYTES = 16
# A longer name is shortened first, because the time of unicodedata.normalize may grow with the square of its
# length.
MAX_FILENAME_CHARACTERS = 1000


class ImageId(str):
    """A string that is known to be a well-formed image-id.

    It can be used as an S3 key, a message body or a dict key without conversion. As the type of a pydantic
    field, it is checked when the model is validated.
    """

    request_id: str
    name: str
    """The part after the request-id, `<nnnn>-<file name>`. It is unique within the request."""
    number: int
    """The position of the image in its upload, starting at 0."""
    filename: str

    def __new__(cls, text: str) -> Self:
        """Raises ValueError when `text` is malformed."""
        found = IMAGE_ID.fullmatch(text)
        if not (found and is_key(text)):
            raise ValueError(f"{text[:100]!r} is no image-id (<request-id>/<nnnn>-<file name>)")
        self = super().__new__(cls, text)
        self.request_id, self.name = found["request_id"], found["name"]
        self.number, self.filename = int(found["number"]), found["filename"]
        return self

    @classmethod
    def make(cls, request_id: str, number: int, filename: str) -> Self:
        """Returns the image-id of a new upload, whose `filename` may be any text (see clean_filename)."""
        return cls(f"{request_id}/{number:04d}-{clean_filename(filename)}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(str))


def new_shard() -> str:
    """Returns a random shard for the requests of one process."""
    return secrets.token_hex(SHARD_DIGITS // 2)


def new_request_id(shard: str = "") -> str:
    """Returns the id of a new request. Without a shard, it gets a random one.

    Whoever has the request-id may see the request, so it must be impossible to guess.
    """
    return f"{shard or new_shard()}{int(now().timestamp()):0{TIME_DIGITS}x}{secrets.token_hex(9)}"


def shard_of(request_id: str) -> str:
    return request_id[:SHARD_DIGITS]


def shard_and_time(request_id: str) -> str:
    """Returns the beginning of a request-id after which all later request-ids of its shard sort."""
    return request_id[: SHARD_DIGITS + TIME_DIGITS]


def is_request_id(text: str) -> bool:
    return REQUEST_ID.fullmatch(text) is not None


def clean_filename(filename: str) -> str:
    """Returns the last component of a path, without control characters. Letters of every script are kept.

    A name of more than MAX_FILENAME_BYTES is cut before its suffix. If nothing is left, the name is
    `unnamed`.
    """
    name = shortened(re.split(r"[/\\]", filename)[-1], MAX_FILENAME_CHARACTERS)
    name = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c)[0] != "C").strip()
    if name.strip(".") == "":
        return "unnamed"
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > MAX_SUFFIX_BYTES:
        return cut(name, MAX_FILENAME_BYTES)
    return cut(stem, MAX_FILENAME_BYTES - len(suffix.encode()) - 1) + dot + suffix


def shortened(name: str, length: int) -> str:
    """Returns at most `length` characters of `name`, with its suffix if that has at most MAX_SUFFIX_BYTES."""
    _, dot, suffix = name[-MAX_SUFFIX_BYTES - 1 :].rpartition(".")
    end = dot + suffix if dot else ""
    return name if len(name) <= length else name[: length - len(end)] + end


def cut(text: str, size: int) -> str:
    """Returns the beginning of `text` that fits into `size` bytes of UTF-8, without half a character."""
    return text.encode()[:size].decode(errors="ignore")
