"""deploy/*.service and deploy/userdata.sh on a machine with a real systemd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.photos import PHOTOS
from controller.autoscaling.user_data import PLACE, render
from local.driver import ROOT, eventually
from tests.support.awkward_values import AWKWARD
from tests.support.bare_cloud import Cloud, bare_cloud
from tests.support.machine import Machine, booted

WORKER, CONTROLLER = "image-classifier-worker", "image-classifier-controller"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with bare_cloud() as cloud:
        yield cloud


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with booted(tmp_path) as machine:
        yield machine


def launch(machine: Machine, cloud: Cloud, **settings: str) -> None:
    """What cloud-init does with the user data of an instance."""
    user_data = render((ROOT / "deploy/userdata.sh").read_text(), cloud.worker_environment | settings)
    machine.run("bash", given=user_data)


def test_a_machine_without_work_switches_itself_off(machine: Machine, cloud: Cloud):
    (image,) = cloud.put("cat")
    launch(machine, cloud, IDLE_SHUTDOWN_SECONDS="3")
    assert cloud.label(image) in PHOTOS["cat"][1]
    eventually(machine.off, 30)
    assert cloud.queue.counts().backlog == 0


def test_a_machine_that_is_shut_down_gives_its_images_back_first(machine: Machine, cloud: Cloud):
    images = cloud.put("cat", 200)
    launch(machine, cloud)
    eventually(lambda: cloud.answered(images), 60)
    machine.run("systemctl", "poweroff", check=False)
    eventually(machine.off, 30)
    counts, answered = cloud.queue.counts(), cloud.answered(images)
    assert counts.in_flight == 0
    assert counts.visible == 200 - len(answered) > 0


def test_a_killed_worker_is_started_again(machine: Machine, cloud: Cloud):
    launch(machine, cloud)
    first = machine.run("systemctl", "show", "-p", "MainPID", "--value", WORKER)
    machine.run("kill", "-9", first)
    eventually(lambda: machine.state(WORKER) == "active", 20)
    assert machine.run("systemctl", "show", "-p", "MainPID", "--value", WORKER) not in ("0", first)
    (image,) = cloud.put("rocket")
    assert cloud.label(image) in PHOTOS["rocket"][1]
    assert not machine.off()


def test_a_machine_whose_settings_are_wrong_switches_itself_off(machine: Machine, cloud: Cloud):
    launch(machine, cloud, MAX_RECEIVES="many")
    eventually(machine.off, 30)


DEAD_MAN = "image-classifier-dead-man"


def test_a_machine_whose_worker_never_gets_ready_switches_itself_off(machine: Machine, cloud: Cloud):
    hangs = "[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n"
    folder = f"/etc/systemd/system/{WORKER}.service.d"
    machine.run("install", "-D", "/dev/stdin", f"{folder}/hangs.conf", given=hangs)
    machine.run("systemctl", "daemon-reload")
    launch(machine, cloud, BOOT_TIMEOUT="2")
    eventually(machine.off, 30)


def test_a_machine_whose_worker_is_ready_stays_on(machine: Machine, cloud: Cloud):
    launch(machine, cloud, BOOT_TIMEOUT="5", IDLE_SHUTDOWN_SECONDS="0")
    (image,) = cloud.put("cat")
    assert cloud.label(image) in PHOTOS["cat"][1]
    looks = "systemctl", "show", "--property=LastTriggerUSecMonotonic", "--value", f"{DEAD_MAN}.timer"
    first = eventually(lambda: (found := machine.run(*looks)) != "0" and found, 30)
    eventually(lambda: machine.run(*looks) != first, 30)
    assert machine.state(WORKER) == "active"


def test_the_controller_answers_on_its_socket_and_to_nobody_but_nginx(machine: Machine, cloud: Cloud):
    settings = cloud.worker_environment | {"AMI_ID": "ami-12c6146b", "ALLOW_ANONYMOUS": "on"}
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    machine.run("install", "-D", "/dev/stdin", "/etc/image-classifier/controller.env", given=text)
    machine.run("systemctl", "start", CONTROLLER)
    ask = [
        "curl",
        "-sS",
        "--unix-socket",
        "/run/image-classifier/controller.sock",
        "http://controller/readyz",
    ]
    assert '"ready"' in machine.run("runuser", "-u", "www-data", "--", *ask)
    assert machine.run("runuser", "-u", "nobody", "--", *ask, check=False) == ""
    machine.run("systemctl", "reload", CONTROLLER)
    assert '"ready"' in machine.run("runuser", "-u", "www-data", "--", *ask)
    machine.run("systemctl", "stop", CONTROLLER)
    assert machine.state(CONTROLLER) == "inactive"


def test_every_setting_reaches_the_unit_as_it_is(machine: Machine):
    settings = {f"SETTING_{n}": value for n, value in enumerate(AWKWARD)}
    unit = "[Service]\nType=oneshot\nEnvironmentFile=/settings\nExecStart=/bin/sh -c 'env -0 > /found'\n"
    machine.run("install", "/dev/stdin", "/settings", given=render(PLACE, settings))
    machine.run("install", "/dev/stdin", "/etc/systemd/system/env.service", given=unit)
    machine.run("systemctl", "start", "env")
    found = dict(item.split("=", 1) for item in machine.run("cat", "/found").split("\0") if item)
    assert {name: found.get(name) for name in settings} == settings
