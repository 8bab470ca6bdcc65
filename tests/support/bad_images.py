"""Makes image files that are damaged, contradict themselves or are something else, from a seed.

No file of anybody else is stored for this: Pillow writes the good ones, and a few changes make them bad.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from random import Random

from PIL import Image

from cloud.image_file import FORMATS
from tests.support.pictures import encoded

CODES = {"empty_file", "not_an_image", "unsupported_format", "too_many_pixels", "broken", "truncated"}
"""What a file may be answered with that is small and no bomb."""

OTHERS = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "text": b"Dear diary, today I saw a cat.",
    "html": b"<!doctype html><script>alert(1)</script>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(w) (/tmp/escaped) file",
    "ppm": b"P6 8 8 255\n" + bytes(192),
    "script": b"#!/bin/sh\necho hello\n",
    "elf": b"\x7fELF\2\1\1" + bytes(57),
    "nothing": b"",
    "zeros": bytes(5000),
}
"""What may have the name of an image and is none, with the codes of OTHER_CODES."""

OTHER_CODES = {"svg": "unsupported_format", "pdf": "unsupported_format", "nothing": "empty_file"}
"""Those that are not `not_an_image`."""


@dataclass(frozen=True)
class BadImageFile:
    """A file, and what it was made of."""

    origin: str
    data: bytes


def zip_archive() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("cat.jpg", good("JPEG"))
    return stream.getvalue()


@cache
def good(format: str, variant: int = 0) -> bytes:
    """Returns a small file of the format. Variants differ in mode, size and options."""
    random = Random(f"{format} {variant}")
    size = (random.randint(1, 90), random.randint(1, 90))
    noise = Image.frombytes("RGB", size, random.randbytes(3 * size[0] * size[1]))
    image = Image.blend(noise, Image.linear_gradient("L").resize(size).convert("RGB"), 0.7)
    mode = random.choice({"GIF": ["P", "L"], "BMP": ["RGB", "P", "1"]}.get(format, ["RGB", "L"]))
    options = {
        "JPEG": {"progressive": bool(variant % 2), "quality": random.choice([10, 75, 95])},
        "PNG": {"interlace": variant % 2},
        "TIFF": {"compression": random.choice(["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])},
        "WEBP": {"lossless": bool(variant % 2)},
    }.get(format, {})
    if format in ("GIF", "WEBP", "TIFF") and variant % 3 == 0:
        options |= {"save_all": True, "append_images": [image.rotate(90).convert(mode)]}
    return encoded(image.convert(mode), format, **options)


def flip_bits(data: bytearray, random: Random) -> None:
    for _ in range(random.choice([1, 1, 2, 8, 50])):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def change_the_header(data: bytearray, random: Random) -> None:
    for _ in range(random.randint(1, 6)):
        data[random.randrange(min(len(data), 64))] = random.choice(
            [0, 1, 127, 128, 255, random.randrange(256)]
        )


def set_a_number(data: bytearray, random: Random) -> None:
    """A length, an offset or a side becomes one of those numbers that programs forget."""
    number = random.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x8000_0000])
    at, width = random.randrange(len(data)), random.choice([2, 4])
    data[at : at + width] = (number % 256**width).to_bytes(width, random.choice(["big", "little"]))


def cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def remove_a_part(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randint(1, 1 + len(data) // 4)]


def repeat_a_part(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    part = data[at : at + random.randint(1, 1 + len(data) // 2)]
    data[at:at] = part * random.choice([1, 2, 30])


def insert_noise(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randint(1, 300))


def splice(data: bytearray, random: Random) -> None:
    """The rest is that of another file, perhaps of another format."""
    other = good(random.choice(FORMATS), random.randrange(6))
    del data[random.randrange(len(data)) :]
    data += other[random.randrange(len(other)) :]


def append_another(data: bytearray, random: Random) -> None:
    """A polyglot: one program sees an image, and another one an archive or a document behind it."""
    data += random.choice([zip_archive(), OTHERS["pdf"], OTHERS["html"], good(random.choice(FORMATS))])


def hide_behind_magic(data: bytearray, random: Random) -> None:
    """It begins as one format and goes on as another."""
    data[: random.randint(2, 12)] = good(random.choice(FORMATS))[: random.randint(2, 12)]


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    flip_bits,
    change_the_header,
    set_a_number,
    cut,
    remove_a_part,
    repeat_a_part,
    insert_noise,
    splice,
    append_another,
    hide_behind_magic,
)


def bad_image(seed: int) -> BadImageFile:
    """Returns the file of a seed, which is the same each time."""
    random = Random(seed)
    format = random.choice(FORMATS)
    variant = random.randrange(12)
    data, origin = bytearray(good(format, variant)), [f"seed {seed}: {format} {variant}"]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if data:
            change = random.choice(CHANGES)
            change(data, random)
            origin.append(change.__name__)
    return BadImageFile(", ".join(origin), bytes(data))
