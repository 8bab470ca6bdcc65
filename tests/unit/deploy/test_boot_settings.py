import shlex

import pytest

from controller.autoscaling.user_data import render
from deploy import boot_settings
from deploy.boot_settings import DEAD_MAN, as_environment_file, find_settings, main, wait_for_user_data
from local.driver import ROOT
from tests.support.awkward_values import AWKWARD
from tests.support.bare_cloud import bare_cloud

WORKER_USER_DATA = (ROOT / "deploy" / "userdata.sh").read_text()
OTHERS = ["", "#!/bin/sh\nreboot\n", (ROOT / "deploy" / "controller-userdata.sh").read_text()]


def test_every_setting_is_found_as_it_was_given():
    settings = {f"SETTING_{n}": value for n, value in enumerate(AWKWARD)}
    assert find_settings(render(WORKER_USER_DATA, settings)) == settings


@pytest.mark.parametrize("user_data", [*OTHERS, (ROOT / "deploy" / "ami-userdata.sh").read_text()])
def test_the_user_data_of_others_has_no_settings_of_a_worker(user_data):
    assert find_settings(render(user_data, {"INPUT_BUCKET": "input"})) is None


@pytest.mark.parametrize("broken", ["reboot", "A='open", "A-B=1", "export A=1"])
def test_what_is_no_setting_is_refused_and_never_run(broken):
    with pytest.raises(ValueError, match=r"NAME=value|No closing quotation"):
        find_settings(WORKER_USER_DATA.replace("# SETTINGS", broken))


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("30", "60"), ("", "600"), ("$(reboot)", "600"), ("0", "1"), ("-5", "600")]
)
def test_the_dead_man_looks_every_two_boot_timeouts(timeout, seconds):
    lines = shlex.split(as_environment_file({"BOOT_TIMEOUT": timeout}))
    assert lines[-1] == f"{DEAD_MAN}={seconds}"


class Late:
    """A metadata service that answers only after some tries."""

    def __init__(self, failures: int, answer: str | None) -> None:
        self.failures, self.answer = failures, answer

    def user_data(self) -> str | None:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError("Network is unreachable")
        return self.answer


def test_it_waits_for_the_network_and_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(boot_settings, "SILENT_SECONDS", 0)
    monkeypatch.setattr(boot_settings, "PAUSE_SECONDS", 0.001)
    assert wait_for_user_data(Late(5, "abc")) == "abc"
    assert capsys.readouterr().out.count("Network is unreachable") == 1
    assert wait_for_user_data(Late(0, None)) == ""


def test_the_instance_of_a_worker_gets_its_settings_again_at_each_boot(tmp_path, monkeypatch, capsys):
    file = tmp_path / "settings.env"
    with bare_cloud() as cloud:
        user_data = render(WORKER_USER_DATA, {"INPUT_BUCKET": "input", "LABELS": "two words"})
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.launch(user_data))
        for _ in range(2):
            main(file)
            assert file.read_text() == "INPUT_BUCKET=input\nLABELS='two words'\nDEAD_MAN_SECONDS=600\n"
            assert [f.name for f in tmp_path.iterdir()] == ["settings.env"]
            file.unlink()
    assert "2 settings" in capsys.readouterr().out


@pytest.mark.parametrize("user_data", OTHERS)
def test_the_instance_of_somebody_else_gets_no_file(user_data, tmp_path, monkeypatch, capsys):
    with bare_cloud() as cloud:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.launch(user_data))
        main(tmp_path / "settings.env")
    assert list(tmp_path.iterdir()) == []
    assert "no worker is started" in capsys.readouterr().out


def test_settings_that_cannot_be_read_leave_the_machine_to_the_worker_and_the_dead_man(
    tmp_path, monkeypatch, capsys
):
    with bare_cloud() as cloud:
        broken = WORKER_USER_DATA.replace("# SETTINGS", "INPUT_BUCKET=input\nA='open")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.launch(broken))
        main(tmp_path / "settings.env")
    assert (tmp_path / "settings.env").read_text() == "DEAD_MAN_SECONDS=600\n"
    assert "cannot be read: No closing quotation" in capsys.readouterr().out
