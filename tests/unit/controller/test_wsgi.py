import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def load(**environment: str) -> subprocess.CompletedProcess[str]:
    """As gunicorn loads it."""
    return subprocess.run(
        [sys.executable, "-c", "import controller.wsgi"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_missing_setting_is_one_line_and_gunicorn_does_not_try_again():
    ended = load(INPUT_BUCKET="photos-in", OUTPUT_BUCKET="photos-out", AWS_REGION="us-east-1")
    assert ended.returncode == 4
    assert ended.stderr == (
        "controller: AMI_ID (AMI that the workers are launched from; the controller needs it) is not set\n"
    )


NEEDED = {"INPUT_BUCKET": "photos-in", "OUTPUT_BUCKET": "photos-out", "AMI_ID": "ami-0123"}


def test_so_is_a_missing_region():
    ended = load(ALLOW_ANONYMOUS="on", **NEEDED)
    assert ended.returncode == 4
    assert ended.stderr.startswith("controller: AWS_REGION (")
    assert ended.stderr.count("\n") == 1


def test_it_is_open_to_everybody_only_if_that_is_said_in_so_many_words():
    ended = load(AWS_REGION="us-east-1", **NEEDED)
    assert ended.returncode == 4
    assert ended.stderr.startswith("controller: API_TOKENS (")
    assert "is not set. Set it, or ALLOW_ANONYMOUS=on if" in ended.stderr
