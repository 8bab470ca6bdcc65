"""Runs the local EC2 instances. The machine behind an instance is a group of processes on this computer.

A machine boots and then runs its user data, which must begin with a ``#!`` line, in a session of its own. A
machine that was stopped runs it again at each start, as the unit on an AMI starts the worker at each boot. It
is switched off by EC2, by the command ``shutdown``, ``poweroff`` or ``halt`` inside of it, or when its last
process has ended. All of its processes then get SIGTERM, and SIGKILL after the grace period.

What the user data prints goes to ``<directory>/<instance-id>.log``. The folder ``<directory>/<instance-id>``
is the home directory of the machine, and is deleted when it ends. Each machine has a thread, which sleeps
until a process ends or the power button of the machine, a FIFO, is pressed. If this process is killed, a
guardian process stops all machines.
"""

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread

from cloud.boot_times import MACHINE_STARTED
from local import processes
from local.endpoint import Endpoint

CONSOLE_BYTES = 65536  # the most that GetConsoleOutput returns
MARK = "LOCAL_AWS"
INSTANCE_MARK = "LOCAL_INSTANCE_ID"
BUTTON = "LOCAL_POWER_BUTTON"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# These come first in the PATH of each machine, so that it cannot switch off the computer that it runs on.
COMMANDS = {
    **dict.fromkeys(("shutdown", "poweroff", "halt"), f'echo off 1<>"${BUTTON}"'),  # <> waits for no reader
    "reboot": 'echo "reboot: a local instance cannot reboot" >&2; exit 1',
    "systemctl": 'case "$*" in *poweroff*|*halt*) exec shutdown ;; esac\n'
    'echo "systemctl: there is no systemd on a local instance" >&2; exit 1',
    "sudo": 'while :; do case "$1" in -u|-g) shift 2 ;; -*) shift ;; *) exec env "$@" ;; esac; done',
}


class _Machine:
    def __init__(self, instance_id: str, user_data: bytes, directory: Path, grace: float) -> None:
        self.id = instance_id
        self.user_data = user_data
        self.grace = grace
        self.mark = f"{INSTANCE_MARK}={instance_id}"
        self.log = directory / f"{instance_id}.log"
        self.folder = directory / instance_id
        self.folder.mkdir()
        self.fifo = self.folder / ".power-button"
        os.mkfifo(self.fifo)
        self.button = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)

    def press(self, grace: float) -> None:
        """Presses the power button. Processes then have at most `grace` seconds to end."""
        self.grace = min(self.grace, grace)
        os.write(self.button, b"off\n")

    def pressed(self, seconds: float | None = None) -> bool:
        """Waits for the power button, for at most `seconds` or forever. Returns whether it was pressed."""
        poll = select.poll()
        poll.register(self.button, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def say(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {self.id} {text}\n")

    def close(self) -> None:
        os.close(self.button)
        shutil.rmtree(self.folder, ignore_errors=True)


class Machines:
    """Starts and stops the machines of the instances of `endpoint`. All times are in seconds.

    A machine boots for `boot_seconds`, and for `start_seconds` if it was stopped before. `environment` is
    added to the environment of each machine. If it has a PATH, the machine's own commands come first. The
    attribute `mark` is an environment variable: other processes that have it are stopped together with the
    machines.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        directory: Path,
        *,
        boot_seconds: float = 0.0,
        start_seconds: float = 0.0,
        grace: float = 8.0,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.mark = {MARK: f"{os.getpid()}-{secrets.token_hex(8)}"}
        self._endpoint = endpoint
        self._directory = directory.resolve()
        self._boot_seconds, self._start_seconds = boot_seconds, start_seconds
        self._grace = grace
        self._environment = dict(environment or {})
        self._say = say
        self._alive: dict[str, tuple[_Machine, Thread]] = {}
        self._closed = False
        self._lock = Lock()
        self._bin = self._directory / "bin"
        self._bin.mkdir(parents=True, exist_ok=True)
        for name, script in COMMANDS.items():
            (self._bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (self._bin / name).chmod(0o755)
        self._guardian = subprocess.Popen(
            [sys.executable, "-IS", processes.__file__, f"{MARK}={self.mark[MARK]}", str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        endpoint.instances.on_launch = self._launch
        endpoint.instances.on_stop = self._stop
        endpoint.instances.console = lambda instance_id: self.log(instance_id).read_bytes()[-CONSOLE_BYTES:]

    def log(self, instance_id: str) -> Path:
        return self._directory / f"{instance_id}.log"

    def stop_all(self, grace: float | None = None) -> list[int]:
        """Stops every machine, and every other process that carries the mark, within `grace` seconds.

        Returns the pids of processes that are still alive.
        """
        grace = self._grace if grace is None else grace
        with self._lock:
            self._closed = True
            threads = [thread for _, thread in self._alive.values()]
            for machine, _ in self._alive.values():
                machine.press(grace)
        for thread in threads:
            thread.join(grace + 2 * processes.KILLED_WITHIN)
        left = processes.stop(f"{MARK}={self.mark[MARK]}", 0)
        self._guardian.communicate()  # ends its input, and thereby the guardian
        return left

    def _launch(self, instance_id: str, user_data: bytes, again: bool) -> None:
        seconds = self._start_seconds if again else self._boot_seconds
        with self._lock:
            if self._closed:
                return
            machine = _Machine(instance_id, user_data, self._directory, self._grace)
            thread = Thread(target=self._boot_and_run, args=[machine, seconds], name=instance_id, daemon=True)
            self._alive[instance_id] = machine, thread
            thread.start()
        how = "started again" if again else "launched"
        self._say(f"instance {instance_id} is {how}; its log is {machine.log}")

    def _stop(self, instance_id: str) -> None:
        with self._lock:
            if instance_id in self._alive:
                self._alive[instance_id][0].press(self._grace)

    def _boot_and_run(self, machine: _Machine, boot_seconds: float) -> None:
        """Runs in the thread of a machine, until it has ended."""
        try:
            if not machine.pressed(boot_seconds):
                self._endpoint.instances.booted(machine.id)
                machine.say(f"booted after {boot_seconds:g} s")
                self._run(machine)
        finally:
            with self._lock:
                del self._alive[machine.id]
                machine.close()
            self._endpoint.instances.ended(machine.id)
            stopped = self._endpoint.instances.find(machine.id) is not None
            self._say(f"instance {machine.id} {'is stopped' if stopped else 'has ended'}")

    def _run(self, machine: _Machine) -> None:
        if not machine.user_data:
            machine.pressed()
            return
        first = self._start_user_data(machine)
        while first:
            pids = processes.marked(machine.mark) + [first.pid] * (first.poll() is None)
            if not pids or not processes.wait(pids, wake=machine.button):
                break
        self._endpoint.instances.shutting_down(machine.id)
        left = processes.stop(machine.mark, machine.grace)
        if first:
            with suppress(ProcessLookupError):  # a process that has removed the mark from its environment
                os.killpg(first.pid, signal.SIGKILL)
            machine.say(f"ended; exit status of its user data {first.wait()}, processes left {left}")

    def _start_user_data(self, machine: _Machine) -> subprocess.Popen[bytes] | None:
        script = machine.folder / "user-data"
        # A process that is forked while another script is open for writing would keep that script open, and
        # the kernel does not run a script that is open for writing. So only one thread at a time does this.
        with self._lock, machine.log.open("ab") as log:
            script.write_bytes(machine.user_data)
            script.chmod(0o700)
            try:
                return subprocess.Popen(
                    [script],
                    cwd=machine.folder,
                    env=self._environment_of(machine),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                machine.say(f"cannot run its user data, which must begin with #! and a program: {error}")
                return None

    def _environment_of(self, machine: _Machine) -> dict[str, str]:
        return {
            "HOME": str(machine.folder),
            "LANG": "C.UTF-8",
            **self._environment,
            **self.mark,
            "PATH": f"{self._bin}:{self._environment.get('PATH', PATH)}",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self._endpoint.metadata_url(machine.id),
            MACHINE_STARTED: str(time.clock_gettime(time.CLOCK_BOOTTIME)),
            INSTANCE_MARK: machine.id,
            BUTTON: str(machine.fifo),
        }
