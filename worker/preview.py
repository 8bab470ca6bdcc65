"""Makes previews of images whose format many browsers cannot show."""

from io import BytesIO

from PIL import Image

from cloud.prediction import LARGEST_PREVIEW
from worker.pixels import Pixels

QUALITY = 70
"""Of the JPEG, as Pillow counts it. A preview of 224 by 224 pixels then has some 10 KB."""


def make_preview(pixels: Pixels) -> bytes | None:
    """Returns what the network sees of an image as a JPEG file, or None if that is too large for a preview.

    No more is decoded for it, and nothing but pixels gets from the file into the preview.
    """
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue() if stream.tell() <= LARGEST_PREVIEW else None
