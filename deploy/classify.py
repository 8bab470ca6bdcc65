"""Classifies one photo with the model on this machine, without AWS: `python -m deploy.classify PHOTO`.

MODEL, WEIGHTS and LABELS are used as a worker uses them. Weights that are missing are downloaded.
"""

import os
import sys
from pathlib import Path

from cloud.buckets import Bucket
from cloud.clients import make_clients
from cloud.errors import CloudError
from cloud.image_file import BadImage, decode
from cloud.settings import SettingsError, WorkerSettings
from worker.engine import ClassifierError, load_classifier


def main() -> int:
    for unused in ("INPUT_BUCKET", "OUTPUT_BUCKET"):
        os.environ.setdefault(unused, "unused")
    try:
        settings = WorkerSettings.from_environment()
        classifier = load_classifier(settings.model, settings.weights, settings.labels or None, read_s3)
        photo = classifier.prepare(decode(Path(sys.argv[1]).read_bytes()))
    except (SettingsError, ClassifierError, CloudError, BadImage, OSError) as error:
        print(f"classify: {error}", file=sys.stderr)
        return 1
    for label, confidence in classifier.classify([photo])[0]:
        print(f"{label} {confidence:.2f}")
    return 0


def read_s3(url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return Bucket(make_clients().s3, bucket).read(key)[0]


if __name__ == "__main__":
    sys.exit(main())
