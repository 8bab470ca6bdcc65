"""Where baked models are on a machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns the folder of all artefacts: that of the environment variable MODEL_CACHE, or a default."""
    return Path(os.environ.get("MODEL_CACHE") or Path.home() / ".cache" / "image-classifier")
