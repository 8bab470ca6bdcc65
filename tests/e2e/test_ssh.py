"""A worker that somebody starts by hand over ssh, on a machine with a real sshd."""

import getpass
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bench.photos import PHOTOS
from local.driver import ROOT, eventually, free_port, marked
from tests.support.baked import model_cache
from tests.support.bare_cloud import Cloud, bare_cloud
from tests.support.front import accepts
from tests.support.programs import need

SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""
SSH = """
Host worker-host
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/client_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  LogLevel ERROR
"""


class Remote:
    """A machine that ssh reaches as `worker-host`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh = [need("ssh"), "-F", str(folder / "ssh_config")]
        self.settings = folder / "worker.env"

    def command(self) -> str:
        """What the deploy page says to type, with this machine's places."""
        page = (ROOT / "deploy/README.md").read_text()
        found = re.search(r"^ssh -t worker-host .*-m worker.*$", page, re.MULTILINE)
        assert found, "deploy/README.md no longer has the command"
        ours = found[0].replace("/opt/image-classifier", str(ROOT))
        return ours.replace("/etc/image-classifier/worker.env", str(self.settings))

    @contextmanager
    def worker(self, typed: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """The ssh of somebody who typed that, or what the deploy page says."""
        _, terminal, *rest = shlex.split(typed or self.command())
        assert terminal == "-t"
        command = [*self.ssh, "-tt", *rest]  # since a test has no terminal of its own
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as session:
            try:
                yield session
            finally:
                session.kill()

    def run(self, command: str) -> None:
        subprocess.run([*self.ssh, "worker-host", command], check=True, timeout=20)

    def workers(self) -> list[psutil.Process]:
        return [p for p in marked(str(self.folder)) if "-m worker" in " ".join(p.cmdline())]


@contextmanager
def sshd(folder: Path) -> Iterator[Remote]:
    port = free_port()
    for name in ("host_key", "client_key"):
        make = [need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(make, check=True)
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(SSH.format(port=port, folder=folder, user=getpass.getuser()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, locks its unprivileged part up
    with (folder / "sshd.log").open("wb") as log:
        command = [need("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or accepts(("127.0.0.1", port)), 10)
        assert process.poll() is None, (folder / "sshd.log").read_text()
        yield Remote(folder)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with bare_cloud(visibility_timeout=5) as cloud:
        yield cloud


@pytest.fixture
def remote(tmp_path: Path, cloud: Cloud) -> Iterator[Remote]:
    found = {"MODEL_CACHE": str(model_cache()), "E2E_TEST": str(tmp_path)}
    settings = cloud.worker_environment | found
    with sshd(tmp_path) as remote:
        remote.settings.write_text("".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items()))
        yield remote
        left = remote.workers()
        for process in left:
            process.kill()
        assert not left


def press_ctrl_c(session: subprocess.Popen[bytes], remote: Remote) -> None:
    assert session.stdin
    session.stdin.write(b"\x03")
    session.stdin.flush()


def terminate(session: subprocess.Popen[bytes], remote: Remote) -> None:
    remote.run(f"kill -TERM {remote.workers()[0].pid}")


def hang_up(session: subprocess.Popen[bytes], remote: Remote) -> None:
    session.kill()


@pytest.mark.parametrize("stop", [press_ctrl_c, terminate, hang_up])
def test_it_classifies_while_no_instance_runs_and_drains_when_told(
    remote: Remote, cloud: Cloud, stop: Callable[[subprocess.Popen[bytes], Remote], None]
):
    images = cloud.put("cat", 300)
    with remote.worker() as session:
        first = eventually(lambda: cloud.answered(images), 60)[0]
        assert cloud.label(first) in PHOTOS["cat"][1]
        assert cloud.instances() == []
        stop(session, remote)
        eventually(lambda: not remote.workers(), 20)
        assert session.wait(20) == (-signal.SIGKILL if stop is hang_up else 0)
    counts, answered = cloud.queue.counts(), cloud.answered(images)
    assert counts.in_flight == 0
    assert counts.visible == len(images) - len(answered) > 0


def test_one_that_nohup_started_outlives_its_connection(remote: Remote, cloud: Cloud):
    program = ".venv/bin/python -m worker"
    nohup = f"nohup {program} > {remote.folder}/worker.log 2>&1"
    (first,) = cloud.put("cat")
    with remote.worker(remote.command().replace(program, nohup)) as session:
        assert cloud.label(first) in PHOTOS["cat"][1]
        hang_up(session, remote)
        session.wait(20)
    (second,) = cloud.put("rocket")
    assert cloud.label(second) in PHOTOS["rocket"][1]
    terminate(session, remote)
    eventually(lambda: not remote.workers(), 20)


def stopped_with_messages(remote: Remote, cloud: Cloud) -> bool:
    """Stops the worker for good if it has messages in flight at this moment."""
    pid = remote.workers()[0].pid
    remote.run(f"kill -STOP {pid}")
    if cloud.queue.counts().in_flight:
        return True
    remote.run(f"kill -CONT {pid}")
    return False


def test_what_a_killed_one_had_goes_to_the_next(remote: Remote, cloud: Cloud):
    images = cloud.put("rocket", 300)
    with remote.worker() as session:
        eventually(lambda: cloud.answered(images) and stopped_with_messages(remote, cloud), 60)
        remote.run(f"kill -KILL {remote.workers()[0].pid}")
        assert session.wait(20) != 0
    assert len(cloud.answered(images)) < len(images)
    with remote.worker() as session:
        eventually(lambda: len(cloud.answered(images)) == len(images), 60)
        press_ctrl_c(session, remote)
        assert session.wait(20) == 0
    assert cloud.queue.counts().backlog == 0
