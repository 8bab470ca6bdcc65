import re
import subprocess
from pathlib import Path

from deploy.parcel import CODE
from local.driver import ROOT
from tests.support.programs import need


def test_shellcheck_has_nothing_to_say_against_the_scripts():
    scripts = [*sorted(ROOT.glob("deploy/*.sh")), ROOT / ".ci" / "run"]
    done = subprocess.run(
        [need("shellcheck"), *scripts], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_services_can_read_what_is_installed_and_nobody_reads_the_state_of_the_plan(tmp_path: Path):
    """Whoever checks the code out may let nobody else read it, and may have applied the plan."""
    code, app = tmp_path / "code", tmp_path / "app"
    for name in ("deploy/terraform/terraform.tfstate", *(f"{n}/a.py" for n in CODE if "." not in n)):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("")
    (code / "requirements.txt").write_text("")
    subprocess.run(["chmod", "-R", "go-rwx", code], check=True)
    [function] = re.findall(
        r"^copy_files\(\) \{\n.*?^\}\n", (ROOT / "deploy/ami.sh").read_text(), re.DOTALL | re.MULTILINE
    )
    places = f"APP={app} TORCH_HOME={app}/weights MODEL_CACHE={app}/model"
    subprocess.run(["bash", "-euc", f"{places}\n{function}copy_files"], cwd=code, check=True)
    found = [file for file in app.rglob("*") if file.is_file()]
    assert {str(file.relative_to(app)) for file in found} == {
        "cloud/a.py",
        "controller/a.py",
        "worker/a.py",
        "deploy/a.py",
        "requirements.txt",
    }
    assert all(file.stat().st_mode & 0o004 and file.parent.stat().st_mode & 0o001 for file in found)


def test_packages_are_not_downloaded_into_memory(tmp_path: Path):
    """Where /tmp is in memory, as in Debian 13, it has half of that, and torch with CUDA does not fit."""
    python, environment = tmp_path / "python", tmp_path / "environment"
    python.write_text(
        '#!/bin/sh\nmkdir -p "$4/bin" && printf "#!/bin/sh\\necho in \\$TMPDIR" > "$4/bin/pip"\n'
        'chmod +x "$4/bin/pip"\n'
    )
    python.chmod(0o755)
    script = ROOT / "deploy/ami.sh"
    functions = script.read_text().partition('[ "$(id -u)" = 0 ]')[0]
    make = f"PYTHON={python}\nmake_environment_with_torch {environment} worker/torch-requirements.txt"
    run = ["bash", "-c", f"{functions}\n{make}", script]
    done = subprocess.run(
        run,
        env={"PATH": "/usr/bin:/bin", "TORCH_INDEX_URL": "https://pypi.org/simple"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.splitlines()) == {"in /var/tmp"}


def test_the_files_for_an_ami_are_not_kept_in_memory(tmp_path: Path):
    """As in the test before: a thousand photos, with which a model is baked, have some gigabytes."""
    where = tmp_path / "where"
    for name, body in {"curl": "", "shutdown": "", "tar": f"pwd > {where}; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(
        ["bash", ROOT / "deploy/ami-userdata.sh"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CODE_URL": "", "LOG_URL": ""},
        capture_output=True,
        check=True,
    )
    folder = Path(where.read_text().strip())
    assert folder.parent == Path("/var/tmp")
    assert not folder.exists()


def test_a_unit_that_does_not_start_is_left_to_systemd(tmp_path: Path):
    """What the user data would start in its place runs as root, and keeps its settings for ever."""
    started = tmp_path / "started"
    programs = {
        "systemctl": 'test "$1" = cat',
        "mountpoint": "true",
        "install": "true",
        ".venv/bin/python": f"touch {started}",
    }
    for name, does in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "APP_DIR": str(tmp_path)}
    script = ROOT / "deploy/controller-userdata.sh"
    done = subprocess.run(["bash", script], env=environment, check=False)
    assert done.returncode != 0, "cloud-init says so in its log"
    assert not started.exists()
