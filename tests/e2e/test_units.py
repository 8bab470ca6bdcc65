"""deploy/*.service and the user data of an instance on a machine with a real systemd."""

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
CLOUD_INIT = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sleep 60
"""
CLEAN = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'printf x >> /cleaned'\n"
SETTINGS, DEAD_MAN = "image-classifier-settings", "image-classifier-dead-man"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with bare_cloud() as cloud:
        yield cloud


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with booted(tmp_path) as machine:
        yield machine


def launch(machine: Machine, cloud: Cloud, **settings: str) -> None:
    """Starts what is enabled on the AMI. The machine is that of an instance with these settings."""
    user_data = render((ROOT / "deploy/userdata.sh").read_text(), cloud.worker_environment | settings)
    boot(machine, cloud.launch(user_data))


def boot(machine: Machine, metadata_url: str) -> None:
    machine.drop_in(SETTINGS, f"[Service]\nEnvironment=AWS_EC2_METADATA_SERVICE_ENDPOINT={metadata_url}\n")
    machine.run("systemctl", "start", "--no-block", WORKER)


def active(machine: Machine, unit: str = WORKER) -> None:
    eventually(lambda: machine.state(unit) == "active", 30)


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
    active(machine)
    process = "systemctl", "show", "-p", "MainPID", "--value", WORKER
    first = machine.run(*process)
    machine.run("kill", "-9", first)
    eventually(lambda: machine.run(*process) not in ("0", first), 20)
    active(machine)
    (image,) = cloud.put("rocket")
    assert cloud.label(image) in PHOTOS["rocket"][1]
    assert not machine.off()


def test_a_machine_whose_settings_are_wrong_switches_itself_off(machine: Machine, cloud: Cloud):
    launch(machine, cloud, MAX_RECEIVES="many")
    eventually(machine.off, 30)


def test_a_machine_whose_worker_never_gets_ready_switches_itself_off(machine: Machine, cloud: Cloud):
    machine.drop_in(WORKER, "[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n", name="hangs")
    launch(machine, cloud, BOOT_TIMEOUT="2")
    eventually(machine.off, 30)


def test_a_machine_whose_worker_is_ready_stays_on(machine: Machine, cloud: Cloud):
    launch(machine, cloud, BOOT_TIMEOUT="5", IDLE_SHUTDOWN_SECONDS="0")
    (image,) = cloud.put("cat")
    assert cloud.label(image) in PHOTOS["cat"][1]
    looks = "systemctl", "show", "--property=NRestarts", "--value", DEAD_MAN
    eventually(lambda: int(machine.run(*looks)) >= 2, 40)
    assert machine.state(WORKER) == "active"


def test_root_makes_the_devices_of_a_gpu_before_the_worker_starts(machine: Machine, cloud: Cloud):
    script = '#!/bin/sh\necho "$@" > /made\ngrep -E "NoNewPrivs|CapEff" /proc/self/status >> /made\nexit 1\n'
    machine.run("install", "-m", "755", "/dev/stdin", "/usr/bin/nvidia-modprobe", given=script)
    capabilities = machine.run("grep", "CapEff", "/proc/1/status")
    launch(machine, cloud)
    active(machine)
    assert machine.run("cat", "/made").splitlines() == ["-u -c 0", capabilities, "NoNewPrivs:\t0"]


def test_the_worker_starts_before_cloud_init_runs_the_user_data_which_then_does_nothing(
    machine: Machine, cloud: Cloud
):
    user_data = render((ROOT / "deploy/userdata.sh").read_text(), cloud.worker_environment)
    boot(machine, cloud.launch(user_data))
    active(machine)
    process = "systemctl", "show", "-p", "MainPID", "--value", WORKER
    first = machine.run(*process)
    machine.run("bash", given=user_data)
    assert machine.run(*process) == first
    assert machine.run("pgrep", "-fc", "python -m worker$") == "1"


def test_a_machine_without_a_network_waits_for_it_and_then_starts_its_worker(machine: Machine, cloud: Cloud):
    boot(machine, "http://127.0.0.1:9")
    eventually(lambda: machine.state(SETTINGS) == "activating", 10)
    assert machine.state(WORKER) == "inactive"
    machine.run("systemctl", "stop", SETTINGS, WORKER)
    launch(machine, cloud)
    active(machine)


@pytest.mark.parametrize(
    "user_data", ["", "#!/bin/bash\necho mine\n", (ROOT / "deploy/controller-userdata.sh").read_text()]
)
def test_the_machine_of_somebody_else_starts_no_worker_and_stays_on(
    user_data: str, machine: Machine, cloud: Cloud
):
    boot(machine, cloud.launch(user_data))
    active(machine, SETTINGS)
    eventually(lambda: machine.run("systemctl", "list-jobs", "--no-legend") == "", 20)
    assert [machine.state(unit) for unit in (WORKER, DEAD_MAN)] == ["inactive", "inactive"]
    assert "no worker is started" in machine.log(SETTINGS)
    assert not machine.off()


def test_a_worker_that_lacks_a_setting_says_which_and_its_machine_switches_itself_off(
    machine: Machine, cloud: Cloud, tmp_path: Path
):
    machine.drop_in(WORKER, "[Service]\nStandardError=append:/tmp/worker.log\n", name="log")
    user_data = render((ROOT / "deploy/userdata.sh").read_text(), {"OUTPUT_BUCKET": "output"})
    boot(machine, cloud.launch(user_data))
    eventually(lambda: "INPUT_BUCKET (" in machine.run("cat", "/tmp/worker.log", check=False), 30)
    eventually(machine.off, 30)


def test_the_worker_can_be_enabled_and_waits_neither_for_cloud_init_nor_for_other_networks(machine: Machine):
    machine.run("systemctl", "enable", WORKER)
    assert machine.run("systemctl", "is-enabled", WORKER) == "enabled"
    for unit in (WORKER, SETTINGS, DEAD_MAN):
        after = set(machine.run("systemctl", "show", "-p", "After", "--value", unit).split())
        # On Debian and Ubuntu, sysinit.target comes after cloud-init, which waits for the network.
        assert not after & {"sysinit.target", "basic.target", "network-online.target", "cloud-init.service"}
    assert "network.target" in machine.run("systemctl", "show", "-p", "After", "--value", WORKER).split()


def test_at_a_boot_the_worker_is_ready_while_cloud_init_still_waits(cloud: Cloud, tmp_path: Path):
    user_data = render((ROOT / "deploy/userdata.sh").read_text(), cloud.worker_environment)
    units = "etc/systemd/system"
    metadata = f"[Service]\nEnvironment=AWS_EC2_METADATA_SERVICE_ENDPOINT={cloud.launch(user_data)}\n"
    files = {
        f"{units}/{SETTINGS}.service.d/test.conf": metadata,
        f"{units}/cloud-init.service": CLOUD_INIT,
        f"{units}/basic.target.d/test.conf": f"[Unit]\nWants=cloud-init.service {WORKER}.service\n",
    }
    with booted(tmp_path, files, until=WORKER) as machine:
        assert machine.state(WORKER) == "active"
        assert machine.state("cloud-init") == "activating"
        assert machine.state("sysinit.target") == "inactive"
        (image,) = cloud.put("cat")
        assert cloud.label(image) in PHOTOS["cat"][1]


def test_the_machine_of_a_worker_does_without_what_others_need(machine: Machine, cloud: Cloud):
    machine.run("install", "/dev/stdin", "/etc/systemd/system/clean.service", given=CLEAN)
    machine.drop_in("clean", (ROOT / "deploy/not-on-workers.conf").read_text())
    machine.run("systemctl", "start", "clean")
    assert machine.run("cat", "/cleaned") == "x"
    launch(machine, cloud)
    active(machine)
    machine.run("systemctl", "start", "clean")
    assert machine.run("cat", "/cleaned") == "x", "it did not run again"


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
