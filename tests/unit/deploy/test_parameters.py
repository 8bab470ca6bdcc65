import shlex
import stat
from pathlib import Path

import boto3
import pytest

from deploy.parameters import main

NAME = "/image-classifier"
TOKENS = "anna:0123456789abcdef,it's:fedcba9876543210"


@pytest.fixture
def put(aws, monkeypatch):
    monkeypatch.setenv("PARAMETERS", NAME)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def put(part: str, value: str) -> None:
        ssm = boto3.client("ssm", region_name="us-east-1")
        ssm.put_parameter(Name=f"{NAME}/{part}", Value=value, Type="SecureString")

    return put


def read(file: Path) -> dict[str, str]:
    """As a shell reads it."""
    return dict(word.split("=", 1) for word in shlex.split(file.read_text()))


def test_settings_and_tokens_come_from_the_parameter_store(put, tmp_path):
    put("settings", "MAX_INSTANCES='3'\nMODEL='resnet50'\n")
    put("api-tokens", TOKENS + "\n")
    main(tmp_path / "env")
    assert read(tmp_path / "env") == {"MAX_INSTANCES": "3", "MODEL": "resnet50", "API_TOKENS": TOKENS}
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600


def test_without_tokens_there_are_the_settings_alone(put, tmp_path):
    put("settings", "MAX_INSTANCES='3'\n")
    main(tmp_path / "env")
    assert read(tmp_path / "env") == {"MAX_INSTANCES": "3"}


def test_what_was_removed_from_the_store_is_gone_at_the_next_start(put, tmp_path):
    (tmp_path / "env").write_text("API_TOKENS='old-0123456789abcdef'\nMODEL='resnet50'\n")
    put("settings", "MAX_INSTANCES='3'\n")
    main(tmp_path / "env")
    assert read(tmp_path / "env") == {"MAX_INSTANCES": "3"}


def test_a_machine_that_is_told_of_no_parameters_asks_for_none(tmp_path, monkeypatch):
    monkeypatch.delenv("PARAMETERS", raising=False)
    main(tmp_path / "env")
    assert not (tmp_path / "env").exists()


def test_a_store_that_cannot_be_read_is_said_in_a_sentence(put, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SystemExit, match="The parameters /image-classifier/\\* cannot be read"):
        main(tmp_path / "env")
