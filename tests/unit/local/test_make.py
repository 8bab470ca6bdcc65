import os
import subprocess

from local.driver import ROOT


def test_a_profile_of_aws_that_is_not_there_ends_no_command():
    environment = {"PATH": os.environ["PATH"], "AWS_PROFILE": "nobody", "AWS_DEFAULT_PROFILE": "nobody"}
    command = ["make", "--silent", "--eval", "profile: ; env | grep ^AWS_ || true", "profile"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
