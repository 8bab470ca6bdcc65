"""Classifies one photo with the model on this machine, without AWS: `python -m deploy.classify PHOTO`.

MODEL, WEIGHTS, LABELS, ENGINE and PRECISION are used as a worker uses them. A model that is not baked yet
is baked first where torch is installed.
"""

import os
import sys
from pathlib import Path

from cloud.clients import make_worker_clients
from cloud.errors import CloudError
from cloud.image_file import BadImage, decode
from cloud.settings import SettingsError, WorkerSettings
from worker.artefact import ClassifierError
from worker.engine import load_classifier


def main() -> int:
    for unused in ("INPUT_BUCKET", "OUTPUT_BUCKET"):
        os.environ.setdefault(unused, "unused")
    try:
        settings = WorkerSettings.from_environment()
        in_s3 = any(source.startswith("s3://") for source in (settings.weights, settings.labels))
        # Without an address in S3, no AWS region is needed.
        classifier = load_classifier(settings, make_worker_clients().s3 if in_s3 else None)
        photo = classifier.prepare(decode(Path(sys.argv[1]).read_bytes()))
    except (SettingsError, ClassifierError, CloudError, BadImage, OSError) as error:
        print(f"classify: {error}", file=sys.stderr)
        return 1
    for label, confidence in classifier.classify([photo])[0]:
        print(f"{label} {confidence:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
