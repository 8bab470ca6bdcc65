import subprocess
from pathlib import Path

import pytest

from cloud.settings import Settings
from controller.userdata import PLACE, render

TEMPLATE = Path("deploy/userdata.sh")
AWKWARD = [
    "plain",
    "with space",
    "it's",
    'say "hi"',
    "$HOME `id` $(id)",
    "a\\b",
    "*",
    "",
    "two\nlines",
    "犬 é",
    "#x",
    "a;b&c|d",
]


@pytest.fixture
def template() -> str:
    return (Path(__file__).parent.parent / TEMPLATE).read_text()


@pytest.mark.parametrize("value", AWKWARD)
def test_a_value_reaches_the_worker_as_it_is(value):
    script = render(f"set -u\n{PLACE}env -0", {"WEIGHTS": value})
    found = subprocess.run(
        ["bash", "-c", script], capture_output=True, timeout=10, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    variables = dict(item.split("=", 1) for item in found.stdout.decode().split("\0") if item)
    assert variables["WEIGHTS"] == value


def test_the_rendered_script_is_valid_bash(template):
    script = render(template, {f"NAME_{n}": value for n, value in enumerate(AWKWARD)})
    checked = subprocess.run(
        ["bash", "-n"], input=script.encode(), capture_output=True, timeout=10, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_settings_stand_before_the_worker_is_started(template, settings: Settings):
    script = render(template, settings.for_workers())
    assert f"export INPUT_BUCKET={settings.input_bucket}\n" in script
    assert script.index("export ") < script.index("-m worker")
    assert script.startswith("#!/bin/bash\n"), "cloud-init runs what starts so"


def test_when_the_worker_ends_so_does_the_machine(template):
    assert render(template, {}).rstrip().endswith("shutdown -h now")


def test_it_fits_into_user_data(template, settings: Settings):
    """EC2 takes 16 KB before base64."""
    assert len(render(template, settings.for_workers()).encode()) < 16_384
