"""Classifies one photo with the model on this machine, without AWS: `python -m deploy.classify PHOTO`.

MODEL, WEIGHTS and LABELS are used as a worker uses them. Weights that are missing are downloaded.
"""

import os
import sys
from pathlib import Path

from cloud.buckets import read_url
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
        classifier = load_classifier(
            settings.model,
            settings.weights,
            settings.labels or None,
            lambda url: read_url(make_clients().s3, url),  # without such a URL, no AWS region is needed
        )
        photo = classifier.prepare(decode(Path(sys.argv[1]).read_bytes()))
    except (SettingsError, ClassifierError, CloudError, BadImage, OSError) as error:
        print(f"classify: {error}", file=sys.stderr)
        return 1
    for label, confidence in classifier.classify([photo])[0]:
        print(f"{label} {confidence:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
