"""A cache of baked models that the tests of a process share, so that each model is baked once."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from worker.engine import Classifier


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MODEL_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of baked models, for one test."""
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["openvino", "torch"], scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def lite0_by_engine(model_cache: Path) -> Callable[[str], Classifier]:
    from tests.support.models import choice, load  # not at the top, because most tests here need no torch

    return cache(lambda engine: load(choice(engine=engine)))


@pytest.fixture
def lite0(lite0_by_engine: Callable[[str], Classifier], engine: str) -> Classifier:
    return lite0_by_engine(engine)


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"
