"""Finds photos with which to bake a model: those of PHOTOS, or those that installed packages carry."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cloud.buckets import bucket_and_key, read_url
from cloud.clients import S3Client
from cloud.image_file import BadImage, decode
from worker.artefact import ClassifierError
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".avif", ".bmp", ".tif", ".tiff")
MOST = 1300
"""How many photos are used at most. Of more, these are chosen at random, but always the same."""

PROJECT = Path(__file__).parents[2]
PACKAGED = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
"""Photos in packages that may be installed, by the package."""


@dataclass(frozen=True)
class PhotoFiles:
    """Photos that can be read."""

    identity: str
    """Changes with the photos of PHOTOS. It is "" when PHOTOS is not set."""
    readers: Sequence[Callable[[], bytes]]
    """Each returns the content of a file, or raises CloudError or OSError."""

    def prepare(self, preprocessing: Preprocessing) -> Pixels:
        """Returns the photos as the network takes them. Leaves out files that cannot be decoded."""
        side = preprocessing.crop
        with ThreadPoolExecutor(8) as pool:
            found = [
                pixels
                for pixels in pool.map(partial(_prepare, preprocessing), self.readers)
                if pixels is not None
            ]
        return np.stack(found) if found else np.empty((0, side, side, 3), np.uint8)


def find_photos(source: str, s3: S3Client | None) -> PhotoFiles:
    """Returns the photos in a folder or at `s3://bucket/prefix`, or packaged ones when `source` is "".

    Raises ClassifierError when there are none, and CloudError when S3 fails.
    """
    if not source:
        return PhotoFiles("", [path.read_bytes for path in packaged_photos()])
    if source.startswith("s3://"):
        names, readers = _in_s3(source, s3)
    else:
        names, readers = _in_folder(Path(source))
    if not readers:
        raise ClassifierError(f"PHOTOS is {source!r}, but there are no photos ({', '.join(SUFFIXES)}).")
    chosen = random.Random(0).sample(readers, min(MOST, len(readers)))  # noqa: S311 - the same each time
    return PhotoFiles(sha256("\n".join(names).encode()).hexdigest(), chosen)


def packaged_photos() -> list[Path]:
    """Returns the photos of the project itself and of installed packages, without importing these."""
    found = [PROJECT / "deploy" / "cat.jpg"]
    for package, names in PACKAGED.items():
        spec = find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in names for path in sorted(Path(location).glob(f"*/**/{name}"))]
    return [path for path in found if path.exists()]


def _in_folder(folder: Path) -> tuple[list[str], list[Callable[[], bytes]]]:
    if not folder.is_dir():
        raise ClassifierError(f"PHOTOS is {str(folder)!r}, which is no folder here.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    stats = [(path, path.stat()) for path in paths]
    names = [f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return names, [path.read_bytes for path in paths]


def _in_s3(url: str, s3: S3Client | None) -> tuple[list[str], list[Callable[[], bytes]]]:
    if s3 is None:
        raise ClassifierError(f"{url} cannot be read without AWS.")
    bucket, prefix = bucket_and_key(s3, url if url.endswith("/") else f"{url}/")
    found = [(key, time) for key, time in bucket.listing(prefix) if key.lower().endswith(SUFFIXES)]
    readers = [partial(read_url, s3, f"s3://{bucket.name}/{key}") for key, _ in found]
    return [f"{key} {time.isoformat()}" for key, time in found], [*readers]


def _prepare(preprocessing: Preprocessing, read: Callable[[], bytes]) -> Pixels | None:
    try:
        return preprocessing.prepare(decode(read()))
    except BadImage:
        return None
