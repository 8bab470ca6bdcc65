import subprocess
from pathlib import Path

import pytest

from controller.autoscaling.user_data import PLACE, render
from controller.container import USER_DATA
from tests.support.awkward_values import AWKWARD


@pytest.fixture
def template() -> str:
    return USER_DATA.read_text()


@pytest.fixture
def boot(tmp_path: Path):
    """Runs a script on a machine of its own sort, whose worker prints its environment. Returns that."""

    def program(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    program("bin/systemctl", "exit 1")
    program("bin/shutdown", f'echo "$@" > {tmp_path}/shut-down')
    program("app/.venv/bin/python", f'[ "$*" = "-m worker" ] && [ ! -e {tmp_path}/shut-down ] && env -0')

    def boot(script: str) -> dict[str, str]:
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "APP_DIR": f"{tmp_path}/app"}
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, timeout=10, check=True, env=environment
        )
        assert done.stderr == b""
        assert (tmp_path / "shut-down").read_text() == "-h now\n", "when the worker ends, so does the machine"
        return dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)

    return boot


def test_every_value_reaches_the_worker_as_it_is(template, boot):
    settings = {f"SETTING_{n}": value for n, value in enumerate(AWKWARD)}
    found = boot(render(template, settings))
    assert {name: found.get(name) for name in settings} == settings


def test_a_worker_has_the_settings_of_its_controller(template, boot, settings):
    for_workers = settings.for_workers()
    found = boot(render(template, for_workers))
    assert {name: found.get(name) for name in for_workers} == for_workers


def test_the_rendered_script_is_valid_bash(template):
    script = render(template, {f"NAME_{n}": value for n, value in enumerate(AWKWARD)})
    checked = subprocess.run(
        ["bash", "-n"], input=script.encode(), capture_output=True, timeout=10, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_template_has_one_place_for_the_settings(template):
    assert template.count(PLACE) == 1
    assert PLACE not in render(template, {"MODEL": "resnet18"})


def test_cloud_init_runs_what_begins_so(template):
    assert render(template, {}).startswith("#!/bin/bash\n")


def test_it_fits_into_user_data(template, settings):
    """EC2 takes 16 KB before base64."""
    assert len(render(template, settings.for_workers()).encode()) < 16_384
