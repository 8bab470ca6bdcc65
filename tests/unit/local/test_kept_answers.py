"""Whether the answer cache of one `make run` is used in the next one."""

from pathlib import Path

import pytest

from cloud.buckets import Bucket
from local import __main__ as local
from local.code_digest import code_digest
from local.endpoint import Endpoint
from tests.support.local_aws import client_of


@pytest.fixture
def state(endpoint: Endpoint) -> Bucket:
    endpoint.reset()
    return Bucket(client_of(endpoint, "s3"), "state")


def in_a_run(endpoint: Endpoint, state: Bucket, folder: Path, *new: str) -> set[str]:
    """Starts with the objects that were kept, adds new ones, and ends. Returns the keys that were kept."""
    endpoint.reset()
    state.s3.create_bucket(Bucket=state.name)
    with local.kept((state.name,), str(folder), state):
        found = set(state.keys(""))
        for key in new:
            state.write(key, b"{}")
    return found


def test_answers_of_other_code_are_not_those_of_the_next_run(endpoint, state, tmp_path, monkeypatch):
    """Whoever updates the code because it has decoded a picture wrongly sends the same bytes again."""
    monkeypatch.setattr(local, "code_digest", lambda root: "of yesterday")
    in_a_run(endpoint, state, tmp_path, "cache/resnet18/1", "open/a")
    assert in_a_run(endpoint, state, tmp_path) == {"cache/resnet18/1", "open/a"}
    monkeypatch.setattr(local, "code_digest", lambda root: "of today")
    assert in_a_run(endpoint, state, tmp_path, "cache/resnet18/2") == {"open/a"}
    assert in_a_run(endpoint, state, tmp_path) == {"cache/resnet18/2", "open/a"}
    (tmp_path / "code").unlink()
    assert in_a_run(endpoint, state, tmp_path) == {"open/a"}, "they may be of any code"


def test_the_code_is_other_code_when_a_file_or_a_package_has_changed(tmp_path):
    for folder in ("cloud", "local"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cloud" / "image_file.py").write_text("a = 1\n")
    (tmp_path / "local" / "requirements.txt").write_text("pillow==13\n")
    seen = {code_digest(tmp_path)}
    (tmp_path / "cloud" / "image_file.py").write_text("a = 2\n")
    seen.add(code_digest(tmp_path))
    (tmp_path / "local" / "requirements.txt").write_text("pillow==14\n")
    seen.add(code_digest(tmp_path))
    assert len(seen) == 3
