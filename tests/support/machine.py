"""A machine with a systemd of its own: this one's files, copied on write, in namespaces. Needs root."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from local.driver import ROOT, eventually
from tests.support.baked import model_cache
from tests.support.programs import need, unable

BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/root"
copy() {  # of a folder, on write: FOLDER CHANGES PLACE
  mkdir "$2.changes" "$2.work"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$2.changes,workdir=$2.work" "$3"
}
copy / "$2/system" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys  # it is this machine's, too
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --rbind /dev dev

mkdir -p opt/image-classifier opt/python etc/systemd/system/image-classifier-.service.d
copy "$1" "$2/application" opt/image-classifier
cp -r "$4" opt/image-classifier/model
chmod -R a+rX opt/image-classifier/model
cp "$1"/deploy/*.service etc/systemd/system
cp -rP "$5"/. .

# Python may live in somebody's home, where the units cannot see it. On an AMI it does not.
mount --bind "$3" opt/python
# From within: a .venv that is a link would otherwise lead out of the copy, and be changed itself.
chroot . ln -sfn /opt/python/bin/python3 /opt/image-classifier/.venv/bin/python
chroot . sed -i "s#^home = .*#home = /opt/python/bin#" /opt/image-classifier/.venv/pyvenv.cfg
printf "[Service]\\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib\\n" \
  > etc/systemd/system/image-classifier-.service.d/python.conf
exec env -i container=tests PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot . /lib/systemd/systemd --unit=basic.target
"""


class Machine:
    def __init__(self, process: subprocess.Popen[bytes], init: int) -> None:
        self.process, self.init = process, init

    def run(self, *command: str, given: str = "", check: bool = True) -> str:
        """Runs it as root on the machine, with `given` as its input. Its standard output."""
        enter = ["nsenter", "--target", str(self.init), "--all", "--root", "env", "--chdir=/"]
        done = subprocess.run(
            [*enter, *command], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, unit: str) -> str:
        return self.run("systemctl", "is-active", unit, check=False)

    def log(self, unit: str) -> str:
        return self.run("journalctl", "-o", "cat", "-u", unit)

    def drop_in(self, unit: str, text: str, name: str = "test") -> None:
        """Adds these lines to the unit."""
        file = f"/etc/systemd/system/{unit}.service.d/{name}.conf"
        self.run("install", "-D", "/dev/stdin", file, given=text)
        self.run("systemctl", "daemon-reload")

    def off(self) -> bool:
        return self.process.poll() is not None


@contextmanager
def booted(
    folder: Path, files: Mapping[str, str] | None = None, until: str = "basic.target"
) -> Iterator[Machine]:
    """With the repository and the baked model in /opt/image-classifier, and the units of deploy/.

    It also has `files`, and has booted when the unit `until` is active.
    """
    own = folder.with_name(f"{folder.name}-files")
    own.mkdir()
    for path, text in (files or {}).items():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text(text)
    systemd, unshare = Path("/lib/systemd/systemd"), need("unshare")
    if os.geteuid() != 0 or not systemd.exists():
        unable("a machine with systemd needs root, and systemd")
    cgroups = next(p.mountpoint for p in psutil.disk_partitions(all=True) if p.fstype == "cgroup2")
    group = Path(cgroups) / f"machine-{os.getpid()}-{folder.name}"
    group.mkdir()
    namespaces = [unshare, "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"]
    join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    places = [str(ROOT), str(folder), sys.base_prefix, str(model_cache()), str(own)]
    process = subprocess.Popen(["sh", "-c", join, "sh", *namespaces, "sh", "-c", BOOT, "sh", *places])
    try:
        init = eventually(lambda: process.poll() is not None or psutil.Process(process.pid).children(), 10)
        assert process.poll() is None, "the machine did not start"
        machine = Machine(process, init[0].pid)
        eventually(lambda: process.poll() is not None or machine.state(until) == "active", 30)
        yield machine
    finally:
        process.kill()
        process.wait(10)
        remove(group)


def remove(group: Path) -> None:
    """Of an ended machine; the kernel lets go of the last processes only after a moment."""

    def removed() -> bool:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not group.exists()

    eventually(removed, 10)
