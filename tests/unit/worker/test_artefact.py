"""Where artefacts are, how they are found, and what a worker does with one that another processor baked."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from cloud.clients import Clients
from cloud.model_version import model_choice
from cloud.settings import WorkerSettings
from tests.support.models import Answer, answers, assert_same, choice, lines, load, saved, state_dict
from worker import engine, trial
from worker.artefact import (
    LARGEST_FILE,
    MANIFEST,
    ClassifierError,
    artefact_folder,
    network_files,
    read_manifest,
)
from worker.engine import load_classifier
from worker.processor import processor

CRASH = ("sh", "-c", "kill -FPE $$")


def test_each_choice_has_a_folder_of_its_own(tmp_path: Path):
    seven, three = saved(tmp_path, {"a": 1}, "seven.pt"), saved(tmp_path, {"a": 2}, "three.pt")
    choices = [
        choice(),
        choice("resnet18"),
        choice(precision="int8"),
        choice(precision="auto"),
        choice("resnet18", weights=seven),
        choice("resnet18", weights=three),
        choice("resnet18", weights=seven, labels=lines(tmp_path, 7)),
    ]
    assert len({artefact_folder(one, None) for one in choices}) == len(choices)


def test_the_choice_of_a_model_differs_by_engine_and_precision(clients: Clients):
    choices = [
        choice(engine=engine, precision=precision)
        for engine in ("openvino", "torch")
        for precision in ("auto", "fp32", "bf16", "int8")
    ]
    assert len({model_choice(one, clients.s3) for one in choices}) == len(choices)


def test_a_missing_artefact_is_none_and_a_broken_one_an_error(tmp_path: Path):
    assert read_manifest(tmp_path / "nothing") is None
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(ClassifierError, match="Delete the folder"):
        read_manifest(tmp_path)


@pytest.fixture(scope="module")
def baked_once(model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkerSettings, Path]:
    """A small model that is baked: its settings, and its artefact's folder."""
    folder = tmp_path_factory.mktemp("small")
    settings = choice("resnet18", weights=saved(folder, state_dict(classes=3)), labels=lines(folder, 3))
    load(settings)
    return settings, artefact_folder(settings, None)


@pytest.fixture
def small_model(baked_once: tuple[WorkerSettings, Path], own_cache: Path) -> tuple[WorkerSettings, Path]:
    """The small model with a copy of its artefact, which the test may damage."""
    settings, baked = baked_once
    folder = artefact_folder(settings, None)
    shutil.copytree(baked, folder)
    return settings, folder


@pytest.fixture
def baked_elsewhere(small_model: tuple[WorkerSettings, Path]) -> tuple[WorkerSettings, list[Answer]]:
    """A model that another processor baked: its settings, and its answers here."""
    settings, folder = small_model
    expected = answers(load_classifier(settings, None))
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"processor": "another"}))
    return settings, expected


def test_an_artefact_of_another_processor_is_tried_and_used(
    baked_elsewhere: tuple[WorkerSettings, list[Answer]], monkeypatch: pytest.MonkeyPatch
):
    settings, expected = baked_elsewhere
    classifier = load_classifier(settings, None)
    assert classifier.engine == "openvino"
    assert_same(answers(classifier), expected)
    monkeypatch.setattr(trial, "CHILD", CRASH)
    fallback = load_classifier(settings, None)
    assert fallback.engine == "torch"
    assert "on this one: it crashed with SIGFPE." in fallback.manifest.reason
    assert_same(answers(fallback), expected)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ClassifierError, match=r"it crashed with SIGFPE\. The engine torch is not installed"):
        load_classifier(settings, None)


def test_an_artefact_that_is_replaced_while_it_is_loaded_is_loaded_anew(
    baked_elsewhere: tuple[WorkerSettings, list[Answer]], monkeypatch: pytest.MonkeyPatch
):
    settings, expected = baked_elsewhere
    folder = artefact_folder(settings, None)
    now = read_manifest(folder)
    assert now is not None
    manifests = [now.model_copy(update={"network": "fp32-gone.xml", "processor": processor()}), now]
    monkeypatch.setattr(engine, "read_manifest", lambda folder: manifests.pop(0))
    assert_same(answers(load_classifier(settings, None)), expected)


def test_a_processor_is_named_with_its_instructions(tmp_path: Path):
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: EPYC\nflags\t\t: fpu avx2 avx512_bf16 rdrand\n\nmodel name\t: EPYC\n")
    assert processor(file).endswith(" EPYC avx2 avx512_bf16")
    assert processor(tmp_path / "missing")


def test_an_artefact_that_is_not_what_was_baked_is_refused_before_the_engine_reads_it(
    small_model: tuple[WorkerSettings, Path], monkeypatch: pytest.MonkeyPatch
):
    settings, folder = small_model
    manifest = read_manifest(folder)
    read_by_engine: list[Path] = []
    monkeypatch.setattr("worker.openvino_network.load_openvino", lambda file, *_: read_by_engine.append(file))
    for file in network_files(folder / manifest.network):
        good = file.read_bytes()
        for bad in (good[:-1], good[:100] + b"!" + good[101:], b"", b"<net>" * 1000):
            file.write_bytes(bad)
            with pytest.raises(ClassifierError, match=r"not those that were baked\. Delete the folder"):
                load_classifier(settings, None)
        file.unlink()
        with pytest.raises(ClassifierError, match=r"cannot be read.*Delete"):
            load_classifier(settings, None)
        with file.open("wb") as huge:
            huge.truncate(LARGEST_FILE + 1)
        with pytest.raises(ClassifierError, match="too large"):
            load_classifier(settings, None)
        file.write_bytes(good)
    assert read_by_engine == []
    load_classifier(settings, None)
    assert read_by_engine == [folder / manifest.network]


@pytest.mark.parametrize("name", ["../fp32.xml", "/etc/passwd", "a/b.xml"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(
    small_model: tuple[WorkerSettings, Path], name: str
):
    settings, folder = small_model
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"network": name}))
    with pytest.raises(ClassifierError, match="outside"):
        load_classifier(settings, None)


def test_a_huge_manifest_is_not_read(tmp_path: Path):
    with (tmp_path / MANIFEST).open("wb") as huge:
        huge.truncate(10 * LARGEST_FILE)
    with pytest.raises(ClassifierError, match="too large"):
        read_manifest(tmp_path)


class Malicious:
    """What pickle makes of it is a call of os.mkdir."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_weights_are_data_and_what_they_ask_to_be_called_is_not(tmp_path: Path, own_cache: Path, engine: str):
    made = tmp_path / "made"
    for content in (Malicious(made), {"fc.weight": Malicious(made)}, {"state_dict": {"a": Malicious(made)}}):
        weights = saved(tmp_path, content)
        with pytest.raises(ClassifierError, match="is not a state dict"):
            load(choice("resnet18", engine, weights=weights))
        Path(weights).write_bytes(pickle.dumps(content))
        with pytest.raises(ClassifierError, match="is not a state dict"):
            load(choice("resnet18", engine, weights=weights))
    assert not made.exists()
    os.mkdir(made)
    with pytest.raises(FileExistsError):  # what they ask for is indeed what they are made to ask for
        torch.load(saved(tmp_path, Malicious(made)), weights_only=False)
