from io import BytesIO
from typing import Any

from PIL import Image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def picture(format: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", (8, 8), "orange"), format)
