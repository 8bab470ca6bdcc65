"""Bakes the model that MODEL, WEIGHTS, LABELS and PRECISION name: python -m worker.bake."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import openvino

from cloud.buckets import read_url
from cloud.clients import make_clients
from cloud.errors import CloudError
from cloud.settings import SettingsError, WorkerSettings
from worker.artefact import MANIFEST, NETWORK, ClassifierError, Manifest, artefact_folder, read_manifest


def main() -> int:
    for unused in ("INPUT_BUCKET", "OUTPUT_BUCKET"):
        os.environ.setdefault(unused, "unused")
    try:
        settings = WorkerSettings.from_environment()
        in_s3 = any(source.startswith("s3://") for source in (settings.weights, settings.labels))
        s3 = make_clients().s3 if in_s3 else None
        folder = artefact_folder(settings, s3)
        if read_manifest(folder):
            print(f"already baked: {folder}")
            return 0
        from worker.bake.convert import convert
        from worker.torch_network import load_model

        model = load_model(
            settings.model, settings.weights, settings.labels or None, lambda url: read_url(s3, url)
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        openvino.save_model(convert(model), temporary / NETWORK, compress_to_fp16=False)
        manifest = Manifest(
            model=model.name,
            weights_sha256=model.weights_sha256,
            labels=model.labels,
            preprocessing=model.preprocessing,
            engine="openvino",
            precision="fp32",
            reason="",
            photos="",
        )
        (temporary / MANIFEST).write_text(manifest.model_dump_json())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        print(f"baked: {folder}")
    except (SettingsError, CloudError, ClassifierError) as error:
        print(f"bake: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
