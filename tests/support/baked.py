"""The model of the tests, which is baked once for all of them."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from cloud.model_cache import cache_folder
from local.__main__ import FALLBACK
from local.driver import ROOT


@cache
def model_cache() -> Path:
    """Returns the folder in which workers find FALLBACK baked."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.bake"],
        cwd=ROOT,
        env=os.environ | FALLBACK,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return cache_folder()
