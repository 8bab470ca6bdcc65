"""The image-id: `<request-id>/<nnnn>-<file name>`, minted once, by the controller.

It is the key of the image in the input bucket, the body of its message, and the key of its
prediction in the output bucket. One prefix per request: one ListObjectsV2 tells what is answered.
"""

import re
import secrets
import time
import unicodedata
from typing import NamedTuple

REQUEST_ID = re.compile(r"[0-9a-f]{28}")
IMAGE_ID = re.compile(r"(?P<request_id>[0-9a-f]{28})/(?P<number>\d{4,})-(?P<filename>.+)", re.DOTALL)
MAX_FILENAME_BYTES = 255  # of an S3 key's 1,024
MAX_SUFFIX_BYTES = 16
LONGEST_READ = 1000  # characters of a name; the time that its normal form takes grows with their square


class ImageId(NamedTuple):
    request_id: str
    number: int
    filename: str


def new_request_id() -> str:
    """Its time in seconds and 80 random bits, as 28 hex digits.

    Whoever has it may read the request, and nobody can guess it. In the order of their ids, requests
    stand in the order of their arrival.
    """
    return f"{int(time.time()):08x}{secrets.token_hex(10)}"


def is_request_id(text: str) -> bool:
    return REQUEST_ID.fullmatch(text) is not None


def image_id(request_id: str, number: int, filename: str) -> str:
    return f"{request_id}/{number:04d}-{clean_filename(filename)}"


def parse(text: str) -> ImageId:
    """ValueError when `text` is no image-id."""
    found = IMAGE_ID.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:100]!r} is no image-id (<request-id>/<nnnn>-<file name>)")
    return ImageId(found["request_id"], int(found["number"]), found["filename"])


def clean_filename(filename: str) -> str:
    """The last component of the path, without control characters; letters of any script stay.

    A name that is too long is cut before its suffix.
    """
    name = shortened(re.split(r"[/\\]", filename)[-1], LONGEST_READ)
    name = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c)[0] != "C").strip()
    if name.strip(".") == "":
        return "unnamed"
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > MAX_SUFFIX_BYTES:
        return cut(name, MAX_FILENAME_BYTES)
    return cut(stem, MAX_FILENAME_BYTES - len(suffix.encode()) - 1) + dot + suffix


def shortened(name: str, length: int) -> str:
    """At most so many characters, a short suffix among them."""
    _, dot, suffix = name[-MAX_SUFFIX_BYTES - 1 :].rpartition(".")
    end = dot + suffix if dot else ""
    return name if len(name) <= length else name[: length - len(end)] + end


def cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, without half a character at the end."""
    return text.encode()[:size].decode(errors="ignore")
