"""Classifies one photo with the model on this machine, without AWS: `python -m deploy.classify PHOTO`.

MODEL, WEIGHTS, LABELS, ENGINE and PRECISION are used as a worker uses them. A model that is not baked yet
is baked first where torch is installed.
"""

import sys
from pathlib import Path

from cloud.clients import s3_for
from cloud.errors import CloudError
from cloud.image_file import BadImage, decode
from cloud.settings import SettingsError, WorkerSettings
from worker.artefact import ClassifierError
from worker.engine import load_classifier


def main() -> int:
    try:
        settings = WorkerSettings.without_buckets()
        classifier = load_classifier(settings, s3_for(settings.weights, settings.labels))
        photo = classifier.prepare(decode(Path(sys.argv[1]).read_bytes()))
    except (SettingsError, ClassifierError, CloudError, BadImage, OSError) as error:
        print(f"classify: {error}", file=sys.stderr)
        return 1
    for label, confidence in classifier.classify([photo])[0]:
        print(f"{label} {confidence:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
