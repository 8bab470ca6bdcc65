"""Real photos, from scikit-image's wheel, as JPEG files."""

from importlib.resources import as_file, files
from io import BytesIO

from PIL import Image


def jpeg(name: str) -> bytes:
    with as_file(files("skimage") / "data" / name) as path, Image.open(path) as image:
        stream = BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=92)
        return stream.getvalue()


PHOTOS: dict[str, tuple[bytes, frozenset[str]]] = {
    "cat": (jpeg("chelsea.png"), frozenset({"tabby", "tiger cat", "Egyptian cat"})),
    "coffee": (jpeg("coffee.png"), frozenset({"espresso"})),
    "rocket": (jpeg("rocket.jpg"), frozenset({"missile", "projectile"})),
    "motorcycle": (jpeg("motorcycle_left.png"), frozenset({"moped", "motor scooter"})),
}
"""Name -> JPEG bytes and those of ImageNet's labels that are right."""
