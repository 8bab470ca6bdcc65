"""What tests need of the machine that they run on."""

import os
import shutil
from typing import NoReturn

import pytest


def need(program: str) -> str:
    """The path of `program`. Without it the test is skipped, but on CI it fails."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    return found or unable(f"{program} is not installed on this machine")


def unable(reason: str) -> NoReturn:
    """Skips the test, but fails it on CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
