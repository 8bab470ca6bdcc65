"""Bakes the model that MODEL, WEIGHTS, LABELS, ENGINE and PRECISION name: python -m worker.bake."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud.clients import S3Client, s3_for
from cloud.errors import CloudError
from cloud.model_cache import cache_folder
from cloud.settings import SettingsError, WorkerSettings, default_of
from worker.artefact import ClassifierError, artefact_folder, read_manifest
from worker.bake.photos import PhotoFiles, find_photos
from worker.engine import load_torch, reader
from worker.trial import noise

SETTINGS = ("model", "weights", "labels", "engine", "precision")


def main() -> int:
    """Bakes the model if it is not baked yet. Returns the exit status."""
    parse_arguments()
    os.umask(0o022)  # a worker that runs as another user reads the files
    photos = os.environ.get("PHOTOS", "")
    try:
        settings = WorkerSettings.without_buckets()
        s3 = s3_for(settings.weights, settings.labels, photos)
        if settings.engine == "torch":
            try_torch(settings, s3)
        else:
            bake_once(settings, s3, find_photos(photos, s3))
    except (SettingsError, CloudError, ClassifierError, OSError) as error:
        print(f"bake: {error}", file=sys.stderr)
        return 2
    return 0


def bake_once(settings: WorkerSettings, s3: S3Client | None, photos: PhotoFiles) -> None:
    """Bakes the artefact, unless there is one already that was baked with the same photos.

    Of several processes that do this, one bakes, and the others wait for it. Raises ClassifierError when the
    model cannot be baked, or is replaced meanwhile: the folder is named after its weights and labels.
    """
    folder = artefact_folder(settings, s3)
    if is_baked(folder, photos):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        if is_baked(folder, photos):
            return
        # Not at the top of the file, because torch takes seconds to load.
        from worker.bake.baking import bake
        from worker.torch_network import load_model

        model = load_model(settings.model, settings.weights, settings.labels or None, reader(s3))
        if artefact_folder(settings, s3) != folder:
            raise ClassifierError("WEIGHTS or LABELS was replaced while the model was loaded. Bake it again.")
        manifest = bake(model, settings.precision, photos, folder)
    print(f"baked: {manifest.precision} for {manifest.engine}, in {folder}\n{manifest.reason}")


def is_baked(folder: Path, photos: PhotoFiles) -> bool:
    """Returns whether the artefact is there already, and says so if it is."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.photos != photos.identity:
        return False
    print(f"already baked: {manifest.precision} for {manifest.engine}, in {folder}")
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock, and holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that bakes the same model", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_torch(settings: WorkerSettings, s3: S3Client | None) -> None:
    """Loads the model with torch, which fetches its weights, and classifies an image. Says so."""
    classifier = load_torch(settings, s3, "ENGINE is torch.")
    classifier.classify([*noise(1, classifier.manifest.preprocessing)])
    print(f"ENGINE=torch: nothing to bake. The weights of {classifier.model} are here, and torch runs it.")


def parse_arguments() -> None:
    fields = {name: WorkerSettings.model_fields[name] for name in SETTINGS}
    lines = [
        f"  {name.upper():<11}  {field.description} (default: {default_of(field) or 'none'})"
        for name, field in fields.items()
    ]
    lines += [
        "  PHOTOS       folder or `s3://bucket/prefix` of photos that calibrate int8 and compare precisions"
        " (default: photos of installed packages, which are too few to compare)",
        f"  MODEL_CACHE  folder of the baked models (default: {cache_folder()})",
    ]
    argparse.ArgumentParser(
        "python -m worker.bake",
        description=__doc__,
        epilog="Settings are environment variables:\n" + "\n".join(lines) + "\nand AWS's own, for s3://.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()


if __name__ == "__main__":
    sys.exit(main())
