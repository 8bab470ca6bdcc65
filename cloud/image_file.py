"""Photos as people have them: is this one, and what are its pixels. Both tiers use it; it needs no torch."""

import json
import re
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import imagesize
from PIL import ExifTags, Image, ImageFile
from pillow_heif import get_file_mimetype, register_heif_opener

from cloud.prediction import FailureCode

register_heif_opener()
Image.init()  # fills Image.OPEN
Image.MAX_IMAGE_PIXELS = None  # ours is below

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "HEIF", "AVIF")
"""Pillow's names of what is accepted; its JPEG opener also opens the MPO that phones write."""

FORMAT_NAMES = "JPEG, PNG, GIF, WebP, BMP, TIFF, HEIC or AVIF"

MAX_PIXELS = 120_000_000
"""Width times height. Phones make 108 million; Pillow holds 1 to 4 bytes a pixel while it decodes."""

PREFIX_BYTES = 1_000_000
"""What is read of a file to recognise it. Cameras put metadata of up to some hundred kB before a picture's
size.
"""

OS2_HEADER = b"\x0c\0\0\0"
"""Where the header of a bitmap is of OS/2's kind, in which imagesize does not find the size."""

SHORT_SIDE = 768
"""Decoding shrinks photos by whole factors to no less than this: three times what the models resize to."""

CHILD = (sys.executable, "-m", "cloud.image_file")
CHILD_SECONDS = 20
EXIT_BAD_IMAGE = 3

OTHER_FILES = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"<svg": "a drawing",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\0\0\1\0": "an icon",
    b"PK\3\4": "a ZIP archive",
}

UPRIGHT = {  # by EXIF's orientation, that is, how the camera was held
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

REMARKS = re.compile(r"PIL|pillow_heif")  # the modules that warn about odd metadata, which is no news


class BadImage(Exception):
    """The file cannot be classified, however often one tries. `code`: for programs, `message`: for people."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def check_header(stream: BinaryIO) -> str:
    """The MIME type of the picture in `stream`; BadImage if it is none that we take.

    Told from its first bytes, and its size from PREFIX_BYTES at most: what a stranger has sent is parsed by
    the worker alone, where it can do no harm to others. The stream is rewound before and after.
    """
    stream.seek(0)
    prefix = stream.read(PREFIX_BYTES)
    stream.seek(0)
    name = _recognise(prefix)
    width, height = imagesize.get(BytesIO(prefix), exif_rotation=False)  # -1 where it cannot tell
    if not (name == "BMP" and prefix[14:18] == OS2_HEADER):
        _check_size(width, height)
    if name == "HEIF":
        return get_file_mimetype(prefix[:32]) or Image.MIME[name]
    return Image.MIME[name]


def decode(data: bytes) -> Image.Image:
    """The picture as RGB, upright, its first frame, transparency over white; or BadImage.

    A large one comes shrunk by a whole factor, its short side still at least SHORT_SIDE pixels.
    """
    image = _open(data)
    try:
        image.draft(None, (SHORT_SIDE, SHORT_SIDE))
        image.load()
        small = _reducible(image).reduce(max(1, min(image.size) // SHORT_SIDE))
        return _upright(_rgb(small, image.mode), image)
    except MemoryError:
        raise
    except Exception as error:  # whatever else a decoder raises, the file is to blame
        if isinstance(error, EOFError) or re.search("truncated|end of file", str(error), re.IGNORECASE):
            raise BadImage(
                FailureCode.TRUNCATED, f"The {image.format} file is cut off. Send all of it."
            ) from error
        message = f"The {image.format} file cannot be decoded. Open it, save it anew, and send that."
        raise BadImage(FailureCode.BROKEN, message) from error


def decode_in_a_child(data: bytes) -> Image.Image:
    """decode() in a process of its own, for a picture that may have killed the one that decoded it before.

    BadImage `crashes_decoder` if that process dies or takes longer than CHILD_SECONDS. InterruptedError if
    somebody stopped it: that says nothing about the picture.
    """
    here = Path(__file__).parents[1]
    try:
        child = subprocess.run(CHILD, input=data, stdout=subprocess.PIPE, cwd=here, timeout=CHILD_SECONDS)
        status = child.returncode
    except subprocess.TimeoutExpired:
        status = -signal.SIGALRM
    if status == 0:
        size, _, pixels = child.stdout.partition(b"\n")
        width, height = map(int, size.split())
        return Image.frombytes("RGB", (width, height), pixels)
    if status == EXIT_BAD_IMAGE:
        said = json.loads(child.stdout)
        raise BadImage(FailureCode(said["code"]), said["message"])
    if status in (-signal.SIGTERM, -signal.SIGINT):
        raise InterruptedError("the decoding process was told to stop")
    message = f"Decoding this picture crashes or takes over {CHILD_SECONDS} s. Save it anew as a JPEG."
    raise BadImage(FailureCode.CRASHES_DECODER, message)


def _open(data: bytes) -> ImageFile.ImageFile:
    if all(rule[2] != REMARKS for rule in warnings.filters):  # catch_warnings would not be thread-safe
        warnings.filterwarnings("ignore", module=REMARKS.pattern)
    name = _recognise(data)
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except MemoryError:
        raise
    except Exception as error:
        message = f"This begins as {name} does, but its header is broken. Send it anew."
        raise BadImage(FailureCode.BROKEN, message) from error
    _check_size(image.width, image.height)
    return image


def _recognise(data: bytes) -> str:
    """One of FORMATS, by its magic bytes; or BadImage."""
    if not data:
        raise BadImage(FailureCode.EMPTY_FILE, f"The file is empty. Send a picture: {FORMAT_NAMES}.")
    head = data[:32]
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept and accept(head) is True:
            return name
    other = next((what for magic, what in OTHER_FILES.items() if head.startswith(magic)), None)
    if other or head[4:8] == b"ftyp":
        raise BadImage(
            FailureCode.UNSUPPORTED_FORMAT, f"This is {other or 'a video'}. Send a picture: {FORMAT_NAMES}."
        )
    raise BadImage(FailureCode.NOT_AN_IMAGE, f"This is not a picture. Send one: {FORMAT_NAMES}.")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 1_000_000} million"
        raise BadImage(
            FailureCode.TOO_MANY_PIXELS, f"The picture has over {limit} pixels. Send a smaller one."
        )


def _reducible(image: Image.Image) -> Image.Image:
    """As L, RGB, RGBA, I or F: the modes that Pillow can shrink."""
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode in ("L", "RGB", "I", "F", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _rgb(image: Image.Image, mode_in_file: str) -> Image.Image:
    """Over white. 16-bit greys keep their scale; wider ones and floats have none: theirs is stretched."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode in ("I", "F"):
        extrema = (0, 65535) if mode_in_file.startswith("I;16") else image.getextrema()
        low, high = cast(tuple[float, float], extrema)
        scale = 255 / (high - low) if high > low else 0
        image = image.point(lambda grey: grey * scale - low * scale + 0.5)
    return image.convert("RGB")


def _upright(small: Image.Image, image: Image.Image) -> Image.Image:
    orientation = 1
    with suppress(Exception):  # broken EXIF must not cost us the picture
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return small.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else small


def _answer_the_parent() -> int:
    """A file on stdin -> `width height`, newline, RGB bytes on stdout; or its BadImage as JSON, status 3."""
    for stop in (signal.SIGTERM, signal.SIGINT):  # sent to the whole process group; the parent decides
        signal.signal(stop, signal.SIG_IGN)
    signal.alarm(CHILD_SECONDS)  # kills us also when the parent is gone
    with suppress(OSError):  # where memory ends, the kernel shall take us, not the worker
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        image = decode(sys.stdin.buffer.read())
    except BadImage as bad:
        print(json.dumps({"code": bad.code, "message": bad.message}))
        return EXIT_BAD_IMAGE
    sys.stdout.buffer.write(b"%d %d\n" % image.size + image.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(_answer_the_parent())
