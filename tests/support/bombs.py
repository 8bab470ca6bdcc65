"""Image files that are small, and take much time or memory to decode."""

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO

from PIL import Image

RGBA = 6
"""The colour type of PNGs with transparency, 4 bytes a pixel."""


@cache
def png(width: int, height: int, colour_type: int = RGBA) -> bytes:
    """A PNG of one colour, with a two-hundredth of a byte a pixel or so."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + 4 * width)
    rows = b"".join([squeeze.compress(row) for _ in range(height)] + [squeeze.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")))


def chunks(*content: tuple[bytes, bytes]) -> Iterator[bytes]:
    for kind, data in content:
        yield struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def jpeg_of_scans(scans: int, side: int = 10_000) -> bytes:
    """A progressive JPEG whose last scan comes so many times more, in 141 bytes that change no pixel."""
    stream = BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True, optimize=True)
    data = stream.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]
