"""Real photos as JPEG files: those that scikit-image and scikit-learn carry, and crops of them."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image

COLOUR_PHOTOS = {
    "skimage": ["data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/motorcycle_left.png"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
SIZE = (500, 375)  # of most photos of ImageNet


def jpeg(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=92)
    return stream.getvalue()


def packaged(package: str, path: str) -> Image.Image:
    with as_file(files(package) / path) as file, Image.open(file) as image:
        return image.convert("RGB")


PHOTOS: dict[str, tuple[bytes, frozenset[str]]] = {
    "cat": (jpeg(packaged("skimage", "data/chelsea.png")), frozenset({"tabby", "tiger cat", "Egyptian cat"})),
    "coffee": (jpeg(packaged("skimage", "data/coffee.png")), frozenset({"espresso"})),
    "rocket": (jpeg(packaged("skimage", "data/rocket.jpg")), frozenset({"missile", "projectile"})),
    "motorcycle": (
        jpeg(packaged("skimage", "data/motorcycle_left.png")),
        frozenset({"moped", "motor scooter"}),
    ),
}
"""Name -> JPEG bytes and those of ImageNet's labels that are right."""


def different_photos(count: int, folder: Path | None = None) -> list[bytes]:
    """Returns `count` JPEG files that all differ: those in `folder`, or else crops of the packaged photos.

    When the folder has fewer, crops of its photos follow. The result is the same each time.
    """
    if folder:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        found = [path.read_bytes() for path in paths[:count]]
        originals = [Image.open(path).convert("RGB") for path in paths[:20]] if len(found) < count else []
    else:
        found = []
        originals = [packaged(package, path) for package, paths in COLOUR_PHOTOS.items() for path in paths]
    return found + list(crops(originals, count - len(found)))


def crops(originals: list[Image.Image], count: int) -> Iterator[bytes]:
    """Yields `count` crops of 60 to 95% of the photos' sides, some of them mirrored, in SIZE."""
    random = Random(0)
    for number in range(count):
        image = originals[number % len(originals)]
        part = random.uniform(0.6, 0.95)
        width, height = int(image.width * part), int(image.height * part)
        left, top = random.randint(0, image.width - width), random.randint(0, image.height - height)
        image = image.crop((left, top, left + width, top + height)).resize(SIZE, Image.Resampling.LANCZOS)
        yield jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image)
