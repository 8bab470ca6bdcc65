import os

import pytest

import cloud.model_version
from cloud.errors import CloudError
from cloud.model_version import choice_of, model_choice, model_version


@pytest.fixture
def choice(settings, aws):
    return lambda **changes: model_choice(settings.model_copy(update=changes), aws.s3)


def test_it_says_which_model_and_is_the_same_for_the_same(choice):
    assert choice().startswith("resnet18-")
    assert choice() == choice()
    assert choice(max_instances=3, log_level="DEBUG") == choice(), "these do not change an answer"


def test_another_model_or_another_ami_is_another_choice(choice):
    assert len({choice(), choice(model="resnet34"), choice(ami_id="ami-4567")}) == 3


@pytest.mark.parametrize("setting", ["weights", "labels"])
def test_a_file_that_is_replaced_is_another_choice(choice, tmp_path, setting):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    first = choice(**{setting: str(path)})
    assert choice(**{setting: str(path)}) == first
    path.write_bytes(b"two")
    os.utime(path, ns=times)
    second = choice(**{setting: str(path)})
    assert second != first, "though neither size nor time tell"
    (tmp_path / "new").write_bytes(b"one")
    (tmp_path / "new").replace(path)
    assert choice(**{setting: str(path)}) == first, "it is the content that counts"


@pytest.mark.parametrize("setting", ["weights", "labels"])
def test_an_object_that_is_replaced_is_another_choice(choice, inputs, setting):
    inputs.write("models/flowers", b"one")
    url = {setting: f"s3://{inputs.name}/models/flowers"}
    first = choice(**url)
    assert choice(**url) == first
    inputs.write("models/flowers", b"two")
    assert choice(**url) != first


@pytest.mark.parametrize(
    "source", ["/nowhere/weights.pt", "s3://nowhere/weights.pt", "s3://test-input/weights.pt"]
)
def test_what_cannot_be_read_has_no_choice(choice, source):
    with pytest.raises(CloudError, match=r"weights\.pt"):
        choice(weights=source)


def test_a_file_is_read_once_while_it_stays(choice, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    reads, digest = [], cloud.model_version.file_digest
    monkeypatch.setattr("cloud.model_version.file_digest", lambda *given: reads.append(1) or digest(*given))
    choice(weights=str(path))
    choice(weights=str(path))
    assert len(reads) == 1


def test_a_choice_has_a_version_for_each_engine_and_precision(choice):
    made = [("openvino", "fp32"), ("openvino", "int8"), ("torch", "fp32")]
    versions = {model_version(choice(), *one) for one in made}
    assert len(versions) == 3
    assert {choice_of(version) for version in versions} == {choice()}
