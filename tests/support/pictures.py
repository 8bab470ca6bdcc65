from io import BytesIO

from PIL import Image


def picture(format: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.new("RGB", (8, 8), "orange").save(stream, format)
    return stream.getvalue()
