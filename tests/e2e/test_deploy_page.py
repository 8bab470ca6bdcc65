"""deploy/README.md, followed line by line against the local AWS, as it says that one can."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from local.driver import ROOT, eventually, free_port, running
from tests.support.documents import COMMANDS, section
from tests.support.plan import provider_folder
from tests.support.programs import need

PAGE = (ROOT / "deploy" / "README.md").read_text()


def blocks(heading: str) -> str:
    """The commands between that heading and the next one."""
    return "\n".join(COMMANDS.findall(section(PAGE, heading)))


FLEET = {"Name": "tag:fleet", "Values": ["image-classifier-state-123456789012"]}
LEFT = {
    "Name": "instance-state-name",
    "Values": ["pending", "running", "stopping", "stopped", "shutting-down"],
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Of the project, so that its own folder gets neither settings nor Terraform's state."""
    unwanted = shutil.ignore_patterns(".[!t]*", ".terraform", "__pycache__", "*.tfstate*", "*.tfvars")
    shutil.copytree(ROOT, tmp_path / "project", ignore=unwanted)
    (tmp_path / "project" / ".venv").symlink_to(sys.prefix)
    return tmp_path / "project"


def test_the_page_followed_on_the_local_aws_leads_to_an_answer(copy: Path, tmp_path: Path):
    need("terraform")
    need("curl")
    port = free_port()  # the page's own, 8000, is that of whoever runs the system beside the tests
    user_data = copy / "deploy" / "controller-userdata.sh"
    user_data.write_text(user_data.read_text().replace("exec ", f"BIND=127.0.0.1:{port} exec "))
    with running(tmp_path / "output") as system:
        commands = [
            blocks("The same on the local AWS").replace(".local/8001/aws.env", str(system.aws_env)),
            "export TF_VAR_model=efficientnet_lite0 TF_VAR_warm_pool=1",
            blocks("5. The plan").replace(" apply", " apply -auto-approve"),
            blocks("6. Is all well?"),
            re.sub("page=.*", f"page=http://127.0.0.1:{port}", blocks("7. The first answer"), count=1),
            "echo",
            blocks("Taking it down").replace(" destroy", " destroy -auto-approve"),
        ]
        printed = follow("\n".join(commands), copy)
        assert re.search(r'"label": ?"(tabby|tiger cat|Egyptian cat)"', printed), printed
        assert "Destroy complete!" in printed
        assert not reachable(f"http://127.0.0.1:{port}/healthz")
        assert system.client("ec2").describe_instances(Filters=[FLEET])["Reservations"], "a worker answered"
        eventually(lambda: not system.client("ec2").describe_instances(Filters=[FLEET, LEFT])["Reservations"])
        buckets = [bucket["Name"] for bucket in system.client("s3").list_buckets()["Buckets"]]
        own = ["input-images", "output-predictions", "output-predictions-state", "photos", "examples"]
        assert buckets == own, "those of `make run` itself"


def reachable(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def follow(commands: str, folder: Path) -> str:
    """Runs them as one would type them, and stops at the first that fails. What they print."""
    provider = provider_folder()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
    if provider:
        environment["TF_CLI_ARGS_init"] = f"-plugin-dir={provider}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
