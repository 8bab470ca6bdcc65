import subprocess

from local.driver import ROOT
from tests.support.programs import need


def test_shellcheck_has_nothing_to_say_against_the_scripts():
    scripts = [*sorted(ROOT.glob("deploy/*.sh")), ROOT / ".ci" / "run"]
    done = subprocess.run(
        [need("shellcheck"), *scripts], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
