"""Thousands of damaged, contradictory and false image files, each of which gets an answer in bounded time."""

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from random import SystemRandom

import pytest

from cloud.image_file import FORMATS, MAX_PIXELS
from tests.support.bad_images import OTHER_CODES, OTHERS, BadImageFile, bad_image, good, zip_archive
from tests.support.bombs import chunks, png
from tests.support.fuzz import CORPUS, Fuzz

SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Fuzz]:
    with Fuzz() as fuzz:
        yield fuzz


def test_each_bad_image_is_answered_rightly_and_under_the_line(
    fuzz: Fuzz, record_property: Callable[[str, object], None]
):
    seed, until = SystemRandom().randrange(2**40), time.monotonic() + SECONDS
    while time.monotonic() < until:
        fuzz.check(bad_image(seed))
        seed += 1
    record_property("sample", str(fuzz))
    assert fuzz.answers.total() > 300
    assert {"decoded", "broken", "truncated", "not_an_image"} <= fuzz.answers.keys()


def test_what_was_found_once_is_tried_again(fuzz: Fuzz):
    for file in sorted(CORPUS.glob("*")):
        fuzz.check(BadImageFile(file.name, file.read_bytes()))


@pytest.mark.parametrize("format", FORMATS)
def test_the_files_that_are_made_bad_are_good_at_first(fuzz: Fuzz, format: str):
    for variant in range(12):
        assert fuzz.check(BadImageFile(format, good(format, variant))) == "decoded"


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_image_is_called_so_whatever_its_name(fuzz: Fuzz, what: str):
    assert fuzz.check(BadImageFile(what, OTHERS[what])) == OTHER_CODES.get(what, "not_an_image")


def test_an_archive_is_no_image_but_an_image_with_one_behind_it_is(fuzz: Fuzz):
    assert fuzz.check(BadImageFile("zip", zip_archive())) == "unsupported_format"
    for format in FORMATS:
        assert fuzz.check(BadImageFile(format, good(format, 1) + zip_archive())) == "decoded"


WIDTH = 12_000


def bmp_that_says_it_is(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def tiff_that_says_it_is(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory).ljust(210, b"\0")


def gif_that_says_it_is(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\1\4\0;"


def jpeg_that_says_it_is(width: int, height: int) -> bytes:
    data = bytearray(good("JPEG", 0))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_that_says_it_is(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + good("WEBP", 1)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def heif_that_says_it_is(width: int, height: int, format: str = "HEIF") -> bytes:
    data = bytearray(good(format, 1))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def avif_that_says_it_is(width: int, height: int) -> bytes:
    return heif_that_says_it_is(width, height, "AVIF")


MAKE_BOMBS = (
    png,
    bmp_that_says_it_is,
    tiff_that_says_it_is,
    gif_that_says_it_is,
    jpeg_that_says_it_is,
    webp_that_says_it_is,
    heif_that_says_it_is,
    avif_that_says_it_is,
)


SEEN_THROUGH = (webp_that_says_it_is, heif_that_says_it_is)
"""Their headers contradict what follows, which their libraries see before they say how large the image is."""


@pytest.mark.parametrize("make", MAKE_BOMBS)
def test_a_bomb_just_below_the_limit_is_decoded_or_broken_and_one_above_it_refused(fuzz: Fuzz, make):
    below = fuzz.check(BadImageFile("below", make(WIDTH, MAX_PIXELS // WIDTH)))
    assert below in ({"decoded"} if make is png else {"decoded", "truncated", "broken"})
    above = fuzz.check(BadImageFile("above", make(WIDTH, MAX_PIXELS // WIDTH + 1)))
    assert above == "too_many_pixels" or (make in SEEN_THROUGH and above == "broken")


def png_with(kind: bytes, content: bytes) -> bytes:
    small = png(8, 8)
    return small[:33] + b"".join(chunks((kind, content))) + small[33:]


BOMB = zlib.compress(bytes(100_000_000), 9)
METADATA_BOMBS = {
    "text": png_with(b"zTXt", b"Comment\0\0" + BOMB),
    "international text": png_with(b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
    "colour profile": png_with(b"iCCP", b"profile\0\0" + BOMB),
    "many JPEG segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 1_500_000,
    "many PNG chunks": png(8, 8)[:33] + b"".join(chunks((b"prVt", b""))) * 500_000,
}


@pytest.mark.parametrize("what", METADATA_BOMBS)
def test_metadata_that_swell_are_answered_within_the_limits(fuzz: Fuzz, what: str):
    assert fuzz.check(BadImageFile(what, METADATA_BOMBS[what])) in ("decoded", "broken", "truncated")
