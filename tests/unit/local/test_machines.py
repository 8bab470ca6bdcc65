import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import processes
from local.endpoint import Endpoint
from local.machines import INSTANCE_MARK, MARK, Machines
from tests.support.local_aws import client_of

GRACE = 0.5
STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def grace() -> float:
    """The seconds that processes have after SIGTERM."""
    return GRACE


@pytest.fixture
def machines(endpoint: Endpoint, tmp_path: Path, grace: float) -> Iterator[Machines]:
    machines = Machines(endpoint, tmp_path, grace=grace, environment={"APP_DIR": "/app"})
    yield machines
    assert machines.stop_all() == []


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "ec2")


def launch(ec2: Any, script: str, count: int = 1, shutdown: str = "terminate") -> list[str]:
    reply = ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=count,
        MaxCount=count,
        UserData=script if script.startswith("#!") else f"#!/bin/sh\n{script}\n",
        InstanceInitiatedShutdownBehavior=shutdown,
    )
    return [instance["InstanceId"] for instance in reply["Instances"]]


def state(ec2: Any, instance_id: str) -> str:
    reply = ec2.describe_instances(InstanceIds=[instance_id])
    return reply["Reservations"][0]["Instances"][0]["State"]["Name"]


def wait_until(what: str, condition: Callable[[], object], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        threading.Event().wait(0.01)


def wait_for_state(ec2: Any, instance_id: str, wanted: str) -> None:
    wait_until(f"{instance_id} is {wanted}", lambda: state(ec2, instance_id) == wanted)


def wait_for_log(machines: Machines, instance_id: str, text: str) -> None:
    log = machines.log(instance_id)
    wait_until(f"{log} has {text!r}", lambda: log.exists() and text in log.read_text())


def living(instance_id: str) -> list[int]:
    return processes.marked(f"{INSTANCE_MARK}={instance_id}")


def test_an_instance_runs_its_user_data_and_logs_what_that_prints(ec2: Any, machines: Machines) -> None:
    [instance_id] = launch(ec2, "echo to stdout; echo to stderr >&2")
    wait_for_state(ec2, instance_id, "terminated")
    first, *printed, last = machines.log(instance_id).read_text().splitlines()
    assert f"{instance_id} booted after 0 s" in first
    assert printed == ["to stdout", "to stderr"]
    assert "exit status of its user data 0" in last


def test_user_data_has_a_small_clean_environment(
    ec2: Any, endpoint: Endpoint, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the caller's own")
    [instance_id] = launch(ec2, "env; pwd")
    wait_for_state(ec2, instance_id, "terminated")
    lines = machines.log(instance_id).read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["APP_DIR"] == "/app"
    assert environment["HOME"] in lines
    metadata = endpoint.metadata_url(instance_id)
    assert environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == metadata
    assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_an_instance_is_pending_while_it_boots(endpoint: Endpoint, ec2: Any, tmp_path: Path) -> None:
    machines = Machines(endpoint, tmp_path, boot_seconds=0.5)
    start = time.monotonic()
    [instance_id] = launch(ec2, "sleep 30")
    assert state(ec2, instance_id) == "pending"
    wait_for_state(ec2, instance_id, "running")
    assert time.monotonic() - start >= 0.5
    assert machines.stop_all() == []


def test_an_instance_that_is_terminated_while_it_boots_runs_nothing(
    endpoint: Endpoint, ec2: Any, tmp_path: Path
) -> None:
    machines = Machines(endpoint, tmp_path, boot_seconds=30)
    [instance_id] = launch(ec2, "echo alive")
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "terminated")
    assert not machines.log(instance_id).exists()
    assert machines.stop_all() == []


def test_several_instances_live_and_end_at_the_same_time(
    ec2: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.reset()
    grace = 3
    machines = Machines(endpoint, tmp_path, grace=grace)
    started = launch(ec2, f"echo up; {STUBBORN}", count=4)
    for instance_id in started:
        wait_for_log(machines, instance_id, "up")
    start = time.monotonic()
    ec2.terminate_instances(InstanceIds=started)
    for instance_id in started:
        wait_for_state(ec2, instance_id, "terminated")
    assert grace <= time.monotonic() - start < 4 * grace
    assert endpoint.record()["most_instances_at_once"] == 4
    assert machines.stop_all() == []


@pytest.mark.parametrize("grace", [30.0])  # a busy machine may take seconds for what it is told to do
def test_termination_lets_processes_finish_within_the_grace_period(ec2: Any, machines: Machines) -> None:
    [instance_id] = launch(
        ec2, "trap 'sleep 1; echo drained; exit' TERM; echo up; while :; do sleep 0.05; done"
    )
    wait_for_log(machines, instance_id, "up")
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert state(ec2, instance_id) == "shutting-down"
    wait_for_state(ec2, instance_id, "terminated")
    assert "drained" in machines.log(instance_id).read_text()


def test_a_process_that_ignores_sigterm_is_killed(ec2: Any, machines: Machines) -> None:
    [instance_id] = launch(ec2, f"echo up; {STUBBORN}")
    wait_for_log(machines, instance_id, "up")
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "terminated")
    assert living(instance_id) == []
    assert f"exit status of its user data {-signal.SIGKILL}" in machines.log(instance_id).read_text()


@pytest.mark.parametrize("start", ["nohup {} &", "setsid {} &"])
def test_what_outlives_its_shell_keeps_the_instance_up_and_ends_with_it(
    ec2: Any, machines: Machines, start: str
) -> None:
    [instance_id] = launch(ec2, start.format("sleep 60") + "\necho done")
    wait_for_log(machines, instance_id, "done")
    wait_until("only sleep is left", lambda: len(living(instance_id)) == 1)
    assert state(ec2, instance_id) == "running"
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "terminated")
    assert living(instance_id) == []


def test_an_instance_whose_processes_are_killed_is_terminated(ec2: Any, machines: Machines) -> None:
    [instance_id] = launch(ec2, "setsid sleep 60 & echo up; sleep 60")
    wait_for_log(machines, instance_id, "up")
    wait_until("all are there", lambda: len(living(instance_id)) == 3)
    for pid in living(instance_id):
        os.kill(pid, signal.SIGKILL)
    wait_for_state(ec2, instance_id, "terminated")


@pytest.mark.parametrize(
    "command", ["shutdown -h now", "poweroff", "halt", "sudo -n shutdown -h now", "systemctl poweroff"]
)
def test_user_data_can_shut_its_own_machine_down(ec2: Any, machines: Machines, command: str) -> None:
    [instance_id] = launch(ec2, f"case $(command -v shutdown) in */bin/shutdown) {command};; esac; sleep 60")
    wait_for_state(ec2, instance_id, "terminated")
    assert living(instance_id) == []


def test_a_machine_that_stops_at_its_shutdown_can_start_again(ec2: Any, machines: Machines) -> None:
    [instance_id] = launch(ec2, "echo run again", shutdown="stop")
    wait_for_state(ec2, instance_id, "stopped")
    ec2.start_instances(InstanceIds=[instance_id])
    wait_until("it ran twice", lambda: machines.log(instance_id).read_text().count("run again") == 2)
    wait_for_state(ec2, instance_id, "stopped")


def test_a_machine_that_ec2_stops_drains_and_starts_again_with_a_delay_of_its_own(
    ec2: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    machines = Machines(endpoint, tmp_path, start_seconds=0.5)
    drain = "trap 'echo drained; exit' TERM; echo up; while :; do sleep 0.05; done"
    [instance_id] = launch(ec2, drain)
    wait_for_log(machines, instance_id, "up")
    ec2.stop_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "stopped")
    assert "drained" in machines.log(instance_id).read_text()
    assert living(instance_id) == []
    start = time.monotonic()
    ec2.start_instances(InstanceIds=[instance_id])
    assert state(ec2, instance_id) == "pending"
    wait_for_state(ec2, instance_id, "running")
    assert time.monotonic() - start >= 0.5
    wait_until("it is up again", lambda: machines.log(instance_id).read_text().count("up") == 2)
    assert "booted after 0.5 s" in machines.log(instance_id).read_text()
    assert machines.stop_all() == []


@pytest.mark.parametrize("first_line", ["#!", "#!/no/such/program"])
def test_user_data_that_cannot_be_run_is_logged_and_ends_the_instance(
    ec2: Any, machines: Machines, first_line: str
) -> None:
    [instance_id] = launch(ec2, f"{first_line}\necho")
    wait_for_state(ec2, instance_id, "terminated")
    assert "cannot run its user data" in machines.log(instance_id).read_text()


def test_user_data_that_has_put_its_environment_off_still_ends_with_its_instance(
    ec2: Any, machines: Machines
) -> None:
    [instance_id] = launch(ec2, "echo $$; exec env -i sleep 60")
    wait_for_log(machines, instance_id, "\n")
    wait_until("the mark is off", lambda: not living(instance_id))
    assert state(ec2, instance_id) == "running"
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "terminated")


def test_an_instance_without_user_data_runs_until_it_is_terminated(ec2: Any, machines: Machines) -> None:
    reply = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    instance_id = reply["Instances"][0]["InstanceId"]
    wait_for_state(ec2, instance_id, "running")
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for_state(ec2, instance_id, "terminated")


def test_stopping_all_ends_every_machine_and_whatever_else_has_the_mark(
    endpoint: Endpoint, ec2: Any, tmp_path: Path
) -> None:
    machines = Machines(endpoint, tmp_path, grace=30)
    started = launch(ec2, f"echo up; {STUBBORN}", count=2)
    for instance_id in started:
        wait_for_log(machines, instance_id, "up")
    other = subprocess.Popen(["sleep", "60"], env=os.environ | machines.mark)
    start = time.monotonic()
    assert machines.stop_all(grace=GRACE) == []
    assert time.monotonic() - start < 15
    assert other.wait(5) < 0
    assert [state(ec2, instance_id) for instance_id in started] == ["terminated"] * 2


SUPERVISOR = f"""
import boto3, os, subprocess, sys
from pathlib import Path
from local.endpoint import Endpoint
from local.machines import Machines

endpoint = Endpoint()
machines = Machines(endpoint, Path(sys.argv[1]), grace=0.5)
endpoint.start()
keys = {{"aws_access_key_id": endpoint.key.id, "aws_secret_access_key": endpoint.key.secret}}
ec2 = boto3.client("ec2", endpoint_url=endpoint.url, region_name="us-east-1", **keys)
user_data = "#!/bin/sh\\nsetsid sleep 60 &\\n{STUBBORN}\\n"
ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, UserData=user_data)
subprocess.Popen(["sleep", "60"], env=os.environ | machines.mark)
print("{MARK}=" + machines.mark["{MARK}"], flush=True)
sys.stdin.read()
"""


def test_the_guardian_ends_everything_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        mark = supervisor.stdout.readline().strip()
        assert mark, "the supervisor did not start"
        wait_until("all processes are there", lambda: len(processes.marked(mark)) >= 3)
        supervisor.kill()
    wait_until("all are gone", lambda: not processes.marked(mark))


def test_no_process_is_taken_for_one_with_an_empty_mark() -> None:
    for mark in ("", "LOCAL_AWS", "LOCAL_AWS=", "=1"):
        with pytest.raises(ValueError, match="NAME=value"):
            processes.stop(mark, 0)


def test_waiting_for_processes_ends_with_them_or_in_time_or_when_woken() -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(["sleep", "60"]) as process:
        assert processes.wait([process.pid], seconds=0.05) is False
        os.write(writer, b"x")
        assert processes.wait([process.pid], wake=reader) is False
        process.kill()
        assert processes.wait([process.pid], seconds=5) is True
    os.close(reader)
    os.close(writer)
