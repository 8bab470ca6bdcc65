"""Where artefacts are, how they are found, and what a worker does with one that another processor baked."""

import json
from pathlib import Path

import pytest

from cloud.clients import Clients
from cloud.model_version import model_choice
from tests.support.models import answers, assert_same, choice, lines, load, saved, state_dict
from worker import engine, trial
from worker.artefact import MANIFEST, ClassifierError, artefact_folder, read_manifest
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


def baked_elsewhere(tmp_path: Path):
    """A model that another processor baked: its settings, and its answers here."""
    settings = choice("resnet18", weights=saved(tmp_path, state_dict(classes=3)), labels=lines(tmp_path, 3))
    expected = answers(load(settings))
    manifest = artefact_folder(settings, None) / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"processor": "another"}))
    return settings, expected


def test_an_artefact_of_another_processor_is_tried_and_used(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    settings, expected = baked_elsewhere(tmp_path)
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
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    settings, expected = baked_elsewhere(tmp_path)
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
