"""deploy/terraform, applied to an AWS of this machine that keeps a record of whose calls are whose."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from local.calls import service_and_operation
from local.driver import ROOT, free_port
from local.endpoint import Endpoint
from local.machines import Machines
from tests.support.baked import model_cache
from tests.support.local_aws import client_of
from tests.support.programs import need, unable

VARIABLES = {
    "ami_id": "ami-12c6146b",
    "alarm_email": "somebody@example.com",
    "s3_path_style": "true",
    "model": "efficientnet_lite0",
    "visibility_timeout": "3",
    "max_instances": "1",
    "warm_pool": "1",
    "key_name": "somebody",
    "allow_anonymous": "true",
    "batch_sources": '["s3://photos/zoo/"]',
    "allowed_cidrs": '["127.0.0.1/32"]',
}
SECONDS = 300
CALLER = re.compile(r"Credential=([^/]+)/")


@dataclass(frozen=True)
class Call:
    caller: str
    """Its access key."""
    service: str
    operation: str
    path: str
    parameters: dict[str, Any]
    if_none_match: str = ""
    """The header of S3's conditional writes."""


class RecordingEndpoint(Endpoint):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def _app(self, environ: dict[str, Any], start_response: Any) -> Any:
        if caller := CALLER.search(environ.get("HTTP_AUTHORIZATION", "")):
            service, operation = service_and_operation(environ)
            parameters = {} if service == "s3" else read_parameters(environ)
            condition = environ.get("HTTP_IF_NONE_MATCH", "")
            self.calls.append(
                Call(caller[1], service, operation, environ["PATH_INFO"], parameters, condition)
            )
        return super()._app(environ, start_response)


def read_parameters(environ: dict[str, Any]) -> dict[str, Any]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    if "HTTP_X_AMZ_TARGET" in environ:
        return dict(json.loads(body))
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


@dataclass
class Plan:
    """A copy of deploy/ in `folder`, and the AWS that it is applied to."""

    folder: Path
    endpoint: RecordingEndpoint
    app: Path
    """Where the instances find the code: a link that a test may bend."""
    port: int
    """Of the controller, on 127.0.0.1."""
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
        aws = {
            "AWS_ENDPOINT_URL": self.endpoint.url,
            **self.endpoint.key.environment(),
            "AWS_MAX_ATTEMPTS": "5",
        }
        variables = {f"TF_VAR_{name}": value for name, value in VARIABLES.items()}
        self.environment = kept | aws | variables | {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}

    def terraform(self, *arguments: str, right: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [need("terraform"), *arguments, "-no-color"],
            cwd=self.folder / "terraform",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode in right, done.stdout + done.stderr
        return done.stdout

    def init(self) -> None:
        """Takes the provider from this machine where it lies here, else from the registry."""
        folder = provider_folder()
        try:
            self.terraform("init", *([f"-plugin-dir={folder}"] if folder else []))
        except AssertionError as error:
            if folder:
                raise
            unable(f"Terraform's AWS provider is not on this machine, and cannot be fetched: {error}")

    def settings(self) -> dict[str, str]:
        """Returns the output `environment`, as a shell reads it."""
        text = self.terraform("output", "-raw", "environment")
        done = subprocess.run(
            ["env", "-i", "sh", "-c", f"set -a\n{text}\nexec env -0"],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(
            line.split("=", 1) for line in done.stdout.split("\0") if line and not line.startswith("PWD=")
        )

    def client(self, service: str) -> Any:
        return client_of(self.endpoint, service)


def provider_folder() -> Path | None:
    """Returns the folder that holds registry.terraform.io, on this machine."""
    wanted = "registry.terraform.io/hashicorp/aws"
    command = [
        "find",
        "/",
        "-maxdepth",
        "7",
        "-type",
        "d",
        "-path",
        f"*/{wanted}",
        "-not",
        "-path",
        "/proc/*",
    ]
    command += ["-not", "-path", "*/.terraform/*", "-not", "-path", "/tmp/*"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.split(
        "\n"
    )
    return Path(found[0].removesuffix(wanted)) if found[0] else None


@contextmanager
def planned(folder: Path) -> Iterator[Plan]:
    need("terraform")
    keep = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars", "__pycache__")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=keep)
    (folder / "app").symlink_to(ROOT)
    endpoint, port = RecordingEndpoint(), free_port()
    plan = Plan(folder / "deploy", endpoint, folder / "app", port)
    machines = Machines(
        endpoint,
        folder / "machines",
        environment={
            "AWS_ENDPOINT_URL": endpoint.url,
            "APP_DIR": str(plan.app),
            "BIND": f"127.0.0.1:{port}",
            "WEB_THREADS": "16",
            "MODEL_CACHE": str(model_cache()),
        },
    )
    endpoint.start()
    plan.client("ec2").create_key_pair(KeyName=VARIABLES["key_name"])
    try:
        yield plan
    finally:
        machines.stop_all()
        endpoint.stop()
