"""Recognises and decodes image files. Both tiers use this module, so it does not import torch."""

import re
import warnings
from contextlib import suppress
from io import BytesIO
from math import isfinite
from typing import BinaryIO, cast

import imagesize
from PIL import ExifTags, Image, ImageFile, PngImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLESPERPIXEL,
    TiffImageFile,
)
from pillow_heif import get_file_mimetype, register_heif_opener

from cloud.failure_code import FailureCode

# With thumbnails, `draft` would choose one in place of the picture, though it may show something else.
register_heif_opener(thumbnails=False)
Image.init()  # fills Image.OPEN
Image.MAX_IMAGE_PIXELS = None  # _check_size enforces a limit of its own
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # metadata may have over 1 MB

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "HEIF", "AVIF")
"""The accepted formats, as Pillow names them. JPEG includes MPO, which some phones write."""

FORMAT_NAMES = "JPEG, PNG, GIF, WebP, BMP, TIFF, HEIC or AVIF"
"""The accepted formats, in words for people."""

SHOWN_BY_FEW_BROWSERS = ("TIFF", "HEIF")
"""The formats that many browsers cannot show."""

MAX_PIXELS = 120_000_000
"""The largest accepted width times height. Some phones make images of 108 million pixels.

Pillow needs 1 to 4 bytes per pixel to decode an image.
"""

PREFIX_BYTES = 1_000_000
"""How much of a file is read to find its format and size.

The size comes after the metadata, for which cameras use up to some hundred kilobytes.
"""

BOXES_BYTES = 64_000
"""The same of a HEIC or AVIF file. imagesize keeps its parts, of which those of cameras have a few kilobytes.

A megabyte of them would take thirty in memory.
"""

OS2_HEADER = b"\x0c\0\0\0"
"""Bytes 14 to 17 of a bitmap with an OS/2 header, whose size imagesize does not find."""

SHORT_SIDE = 384
"""The shortest side, in pixels, to which large images are shrunk when they are decoded.

It is half as much again as the size to which the models resize the short side of their input. On 1,000 photos
of ImageNet, three times as large as they are published, no fewer labels are right than with 768 or more.
"""

BAND_PIXELS = 1_000_000
"""How many pixels of a large image are shrunk at once."""

OTHER_FORMATS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"<svg": "a drawing",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\0\0\1\0": "an icon",
    b"PK\3\4": "a ZIP archive",
}
"""Formats that are not accepted, in words for people, by the bytes that such files start with."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by the EXIF orientation, which says how the camera was held."""

WHITE_IS_ZERO = 0
"""A value of PHOTOMETRIC_INTERPRETATION."""

TOGETHER, IN_PLANES = 1, 2
"""Values of PLANAR_CONFIGURATION: the colours of a pixel are stored together, or each colour by itself."""

NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""Pillow's names of big-endian samples, and of such in the order of this machine."""

WARNING_MODULES = re.compile(r"PIL|pillow_heif")
"""The modules whose warnings about unusual metadata are ignored."""


class BadImage(Exception):
    """The file cannot be classified, however often one tries.

    `code` is for programs, and `message` is for people. `pixels` is how many the image has, if it could not
    be decoded although its header could be read.
    """

    def __init__(self, code: FailureCode, message: str, pixels: int = 0) -> None:
        super().__init__(message)
        self.code, self.message, self.pixels = code, message, pixels


def check_header(stream: BinaryIO) -> str:
    """Returns the MIME type of the image in `stream`. Raises BadImage when it is not accepted.

    The format is found from the first bytes, and the size from at most PREFIX_BYTES. Only workers parse more
    of a file, because a malicious file can do less harm there. The stream is read from its start, and is
    rewound afterwards.
    """
    stream.seek(0)
    prefix = stream.read(PREFIX_BYTES)
    stream.seek(0)
    name = _recognise(prefix)
    if name in ("HEIF", "AVIF"):
        prefix = prefix[:BOXES_BYTES]
    width, height = imagesize.get(BytesIO(prefix), exif_rotation=False)  # -1 if it finds no size
    if not (name == "BMP" and prefix[14:18] == OS2_HEADER):
        _check_size(width, height)
    if name == "HEIF":
        return get_file_mimetype(prefix[:32]) or Image.MIME[name]
    return Image.MIME[name]


def shown_by_few_browsers(data: bytes) -> bool:
    """Returns whether many browsers cannot show this image file. Only its first bytes are read."""
    try:
        return _recognise(data) in SHOWN_BY_FEW_BROWSERS
    except BadImage:
        return False


def decode(data: bytes) -> Image.Image:
    """Returns the first frame of an image file in mode RGB, upright, with white in place of transparency.

    A large image is shrunk by a whole factor, so that its short side has at least SHORT_SIDE pixels. Raises
    BadImage when the file cannot be decoded, and MemoryError when that takes more memory than there is.
    Nothing limits what a malicious file does to the process: strangers' files are for worker.decoder.
    """
    image = _open(data)
    pixels = image.width * image.height
    try:
        image.draft(None, (SHORT_SIDE, SHORT_SIDE))
        image.load()
        if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            image.putalpha(255)  # many programs leave this byte empty, and browsers show such a bitmap
        return _upright(_rgb(_shrunk(image), image), image)
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise any exception for a broken file
        if isinstance(error, EOFError) or re.search("truncated|end of file", str(error), re.IGNORECASE):
            message = f"The {image.format} file is cut off. Send all of it."
            raise BadImage(FailureCode.TRUNCATED, message, pixels) from error
        message = f"The {image.format} file cannot be decoded. Open it, save it anew, and send that."
        raise BadImage(FailureCode.BROKEN, message, pixels) from error


def _open(data: bytes) -> ImageFile.ImageFile:
    if all(rule[2] != WARNING_MODULES for rule in warnings.filters):  # catch_warnings is not thread-safe
        warnings.filterwarnings("ignore", module=WARNING_MODULES.pattern)
    name = _recognise(data)
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        if isinstance(image, TiffImageFile):
            _read_samples_as_stored(image)
    except MemoryError:
        raise
    except Exception as error:
        message = f"This begins as {name} does, but its header is broken. Send it anew."
        raise BadImage(FailureCode.BROKEN, message) from error
    _check_size(image.width, image.height)
    return image


def _read_samples_as_stored(image: TiffImageFile) -> None:
    """Corrects how Pillow reads the samples of some TIFF files, which it would not read as they are stored.

    It takes each byte of uncompressed planes for a pixel, also if they have 16 bits for each pixel. If there
    is a single plane, it forgets that 0 is white, how many bits there are, and their order. And it does not
    always know that libtiff, which decompresses, returns bytes in the order of this machine.
    """
    planes = image.tag_v2.get(PLANAR_CONFIGURATION) == IN_PLANES
    if planes and image.tag_v2.get(SAMPLESPERPIXEL, 1) == 1:
        image.tag_v2[PLANAR_CONFIGURATION] = TOGETHER
        image._setup()
        planes = False
    whole = planes and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) == 16
    order = "L" if image.tag_v2.prefix == b"II" else "B"

    def corrected(codec: str, samples: str) -> str:
        if codec == "libtiff":
            return NATIVE.get(samples, samples)
        return f"{samples};16{order}" if whole and codec == "raw" else samples

    image.tile = [
        tile._replace(args=(corrected(tile.codec_name, tile.args[0]), *tile.args[1:]))
        if isinstance(tile.args, tuple)
        else tile
        for tile in image.tile
    ]


def _recognise(data: bytes) -> str:
    """Returns which of FORMATS the first bytes of a file belong to. Raises BadImage if it is none."""
    if not data:
        raise BadImage(FailureCode.EMPTY_FILE, f"The file is empty. Send a picture: {FORMAT_NAMES}.")
    head = data[:32]
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept and accept(head) is True:
            return name
    other = next((what for magic, what in OTHER_FORMATS.items() if head.startswith(magic)), None)
    if other or head[4:8] == b"ftyp":
        raise BadImage(
            FailureCode.UNSUPPORTED_FORMAT, f"This is {other or 'a video'}. Send a picture: {FORMAT_NAMES}."
        )
    raise BadImage(FailureCode.NOT_AN_IMAGE, f"This is not a picture. Send one: {FORMAT_NAMES}.")


def _check_size(width: int, height: int) -> None:
    """Raises BadImage when the image has more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 1_000_000} million"
        raise BadImage(
            FailureCode.TOO_MANY_PIXELS, f"The picture has over {limit} pixels. Send a smaller one."
        )


def _shrunk(image: Image.Image) -> Image.Image:
    """Returns the image in a mode of _reducible, shrunk as `decode` says.

    It is shrunk band by band, because Pillow copies what it shrinks up to twice.
    """
    factor = min(image.size) // SHORT_SIDE
    if factor < 2:
        return _reducible(image)
    width, height = image.size
    rows = factor * max(1, BAND_PIXELS // (width * factor))
    tops = range(0, height, rows)
    bands = [_reducible(image.crop((0, top, width, min(top + rows, height)))).reduce(factor) for top in tops]
    small = Image.new(bands[0].mode, (bands[0].width, sum(band.height for band in bands)))
    for top, band in zip(tops, bands, strict=True):
        small.paste(band, (0, top // factor))
    return small


def _reducible(image: Image.Image) -> Image.Image:
    """Returns the image in mode L, RGB, RGBA, I or F, which are those that Pillow can shrink."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("L", "RGB", "I", "F", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _rgb(small: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Returns `small`, which was made of `image`, in mode RGB, with white in place of transparency.

    The grey levels of 16-bit images are divided by 257, and those of 12 bits by a sixteenth of that. Those of
    32-bit and floating-point images have no fixed range, so the range that occurs in the image is stretched
    to 0 to 255. Pillow does not turn these levels round where a TIFF file says that 0 is white, as it does
    with 8-bit ones.
    """
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    elif small.mode in ("I", "F"):
        low, high = (0, _white(image)) if image.mode.startswith("I;16") else _range(small)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
            low, high = high, low
        scale = 255 / (high - low) if high != low else 0
        small = small.point(lambda grey: grey * scale - low * scale + 0.5)
    return small.convert("RGB")


def _white(image: ImageFile.ImageFile) -> int:
    """Returns the level of white in an image in mode I;16, which a TIFF file of 12 bits also has."""
    bits = image.tag_v2[BITSPERSAMPLE][0] if isinstance(image, TiffImageFile) else 16
    return int(2**bits - 1)


def _range(greys: Image.Image) -> tuple[float, float]:
    """Returns the lowest and the highest level of an image in mode I or F, without NaN and infinity."""
    low, high = cast(tuple[float, float], greys.getextrema())
    if isfinite(high - low):
        return low, high
    finite = [grey for grey in cast(tuple[float, ...], greys.get_flattened_data()) if isfinite(grey)] or [0]
    return min(finite), max(finite)


def _upright(small: Image.Image, image: Image.Image) -> Image.Image:
    """Returns `small` rotated or mirrored as the EXIF orientation of `image` says."""
    orientation = 1
    with suppress(Exception):  # an image with broken EXIF data can still be classified
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return small.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else small
