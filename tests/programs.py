"""Programs of the system's own that tests start: nginx, sshd and the like."""

import os
import shutil

import pytest


def need(program: str) -> str:
    """The path of `program`. Where it is missing the test is skipped, but on CI it fails."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if found:
        return found
    reason = f"{program} is not installed on this machine"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
