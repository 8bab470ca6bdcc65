"""Instances that run their user data in a clean Debian: a folder that debootstrap filled, as their root.

What it has of this machine is its network, the certificates that it trusts, and torch, which a virtual
environment sees only if it may see the system's packages: PyPI has no build for CPUs alone, and the one that
it has fills gigabytes.
"""

import os
import re
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from threading import Thread

from local.endpoint import Endpoint
from tests.support.programs import need, unable

RELEASE = "bookworm"
STOCK = "ca-certificates,curl,systemd"  # what cloud images have beyond the smallest system
PENDING_SECONDS = 1.0  # for which EC2 shows an instance as pending
TORCH = re.compile(r"(torch|torchvision|triton|nvidia|cuda)\b.*")
HOST_PACKAGES = Path(sysconfig.get_paths()["purelib"])
ENTER = r"""
set -eu
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt"
mount -o remount,bind,ro "$1/mnt"
mount --bind /etc/ssl/certs "$1/etc/ssl/certs"
mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
root=$1
shift 2
exec chroot "$root" env -i "$@" /user-data
"""


def debootstrap(root: Path) -> None:
    program = need("debootstrap")
    if os.geteuid() != 0:
        unable("debootstrap needs root")
    command = [program, "--variant=minbase", f"--include={STOCK}", RELEASE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        unable(f"debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    no_services = root / "usr/sbin/policy-rc.d"  # else an installed nginx would start, here
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)
    (root / "etc/resolv.conf").touch()
    lend_torch(root)


def lend_torch(root: Path) -> None:
    folder = root / "usr/local/lib/python3.11/dist-packages"
    folder.mkdir(parents=True, exist_ok=True)
    for found in distributions(path=[str(HOST_PACKAGES)]):
        if TORCH.fullmatch(found.name.lower()):
            for name in top_level(found):
                if not (folder / name).is_symlink():
                    (folder / name).symlink_to(f"/mnt/{name}")


def top_level(found: Distribution) -> set[str]:
    """Returns the files and folders in site-packages that are its own."""
    return {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}


class CleanRoot:
    """The machine behind the instances of `endpoint`, one at a time. What they print is in `logs`."""

    def __init__(self, endpoint: Endpoint, root: Path, environment: Mapping[str, str]) -> None:
        self.instances, self.root = endpoint.instances, root
        kept = {
            k: v for k, v in os.environ.items() if k in ("PIP_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT")
        }
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {"PATH": path, "HOME": "/root", **kept, **environment}
        self.logs: list[str] = []
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.instances.on_launch, self.instances.on_stop = self.launch, self.stop

    def run(self, script: bytes) -> str:
        """Runs a script there, and returns all that it prints."""
        return self.start(script).communicate(timeout=60)[0]

    def start(self, user_data: bytes) -> subprocess.Popen[str]:
        script = self.root / "user-data"
        script.write_bytes(user_data)
        script.chmod(0o755)
        arguments = [str(self.root), str(HOST_PACKAGES), *(f"{k}={v}" for k, v in self.environment.items())]
        namespaces = [need("unshare"), "--mount", "--pid", "--fork", "--kill-child"]
        return subprocess.Popen(
            [*namespaces, "sh", "-c", ENTER, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def launch(self, instance_id: str, user_data: bytes, again: bool) -> None:
        self.processes[instance_id] = self.start(user_data)
        Thread(target=self.live, args=[instance_id], daemon=True).start()

    def live(self, instance_id: str) -> None:
        time.sleep(PENDING_SECONDS)
        self.instances.booted(instance_id)
        self.logs.append(self.processes[instance_id].communicate()[0])
        self.instances.shutting_down(instance_id)
        self.instances.ended(instance_id)

    def stop(self, instance_id: str) -> None:
        if self.processes[instance_id].poll() is None:
            self.processes[instance_id].kill()
        else:
            self.instances.ended(instance_id)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)
