import os

import pytest

import cloud.model_version
from cloud.errors import CloudError
from cloud.model_version import model_version


@pytest.fixture
def version(settings, aws):
    return lambda **changes: model_version(settings.model_copy(update=changes), aws.s3)


def test_it_says_which_model_and_is_the_same_for_the_same(version):
    assert version().startswith("resnet18-")
    assert version() == version()
    assert version(max_instances=3, log_level="DEBUG") == version(), "these do not change an answer"


def test_another_model_or_another_ami_is_another_version(version):
    assert len({version(), version(model="resnet34"), version(ami_id="ami-4567")}) == 3


@pytest.mark.parametrize("setting", ["weights", "labels"])
def test_a_file_that_is_replaced_is_another_version(version, tmp_path, setting):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    first = version(**{setting: str(path)})
    assert version(**{setting: str(path)}) == first
    path.write_bytes(b"two")
    os.utime(path, ns=times)
    second = version(**{setting: str(path)})
    assert second != first, "though neither size nor time tell"
    (tmp_path / "new").write_bytes(b"one")
    (tmp_path / "new").replace(path)
    assert version(**{setting: str(path)}) == first, "it is the content that counts"


@pytest.mark.parametrize("setting", ["weights", "labels"])
def test_an_object_that_is_replaced_is_another_version(version, inputs, setting):
    inputs.write("models/flowers", b"one")
    url = {setting: f"s3://{inputs.name}/models/flowers"}
    first = version(**url)
    assert version(**url) == first
    inputs.write("models/flowers", b"two")
    assert version(**url) != first


@pytest.mark.parametrize(
    "source", ["/nowhere/weights.pt", "s3://nowhere/weights.pt", "s3://test-input/weights.pt"]
)
def test_what_cannot_be_read_has_no_version(version, source):
    with pytest.raises(CloudError, match=r"weights\.pt"):
        version(weights=source)


def test_a_file_is_read_once_while_it_stays(version, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    reads, digest = [], cloud.model_version.file_digest
    monkeypatch.setattr("cloud.model_version.file_digest", lambda *given: reads.append(1) or digest(*given))
    version(weights=str(path))
    version(weights=str(path))
    assert len(reads) == 1
