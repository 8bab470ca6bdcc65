"""python -m worker.bake: what it bakes, when it bakes again, and what happens where OpenVINO fails."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cloud.clients import Clients
from cloud.errors import CloudError
from tests.support.models import (
    IMAGES,
    answers,
    assert_same,
    choice,
    lines,
    load,
    photo_folder,
    saved,
    state_dict,
)
from worker import trial
from worker.artefact import ClassifierError, artefact_folder, read_manifest
from worker.bake import quantise
from worker.bake.__main__ import bake_once, main
from worker.bake.photos import find_photos, packaged_photos
from worker.engine import CODE, load_classifier
from worker.torch_network import TorchModel, load_model

CRASH = ("sh", "-c", "kill -FPE $$")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos") / "many", 60)


@pytest.fixture
def photos(many: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As many as are needed, which are fewer than otherwise, to save time."""
    monkeypatch.setattr("worker.bake.choice.NEEDED", 60)
    return many


@pytest.fixture
def pets(tmp_path: Path, own_cache: Path):
    """Returns the settings of a small model of the test's own at some precision."""
    weights, labels = saved(tmp_path, state_dict(classes=7)), lines(tmp_path, 7)
    return lambda precision: choice("resnet18", precision=precision, weights=weights, labels=labels)


def command(own_cache: Path, **environment: str) -> subprocess.Popen:
    """Starts the command with efficientnet_lite0."""
    given = {"MODEL": "efficientnet_lite0", "PRECISION": "fp32", "MODEL_CACHE": str(own_cache), **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "worker.bake"],
        cwd=CODE,
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=0o077,
    )


@pytest.fixture
def run(own_cache: Path, settings_environment: pytest.MonkeyPatch):
    """Runs the command with efficientnet_lite0 in this process, and returns its exit status."""

    def run(**environment: str) -> int:
        for name, value in {"MODEL": "efficientnet_lite0", "PRECISION": "fp32", **environment}.items():
            settings_environment.setenv(name, value)
        settings_environment.setattr(sys, "argv", ["bake"])
        return main()

    return run


def test_of_two_bakers_one_bakes_and_the_other_waits_and_everybody_may_read_the_result(own_cache: Path):
    bakers = [command(own_cache) for _ in range(2)]
    outputs = sorted(baker.communicate(timeout=120)[0] for baker in bakers)
    assert [baker.returncode for baker in bakers] == [0, 0]
    assert sum("\nbaked: fp32 for openvino" in output for output in outputs) == 1
    assert sum("already baked: fp32 for openvino" in output for output in outputs) == 1
    for path in [own_cache, *own_cache.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    before = time.monotonic()
    again = command(own_cache)
    assert again.communicate(timeout=60)[0].startswith("already baked: fp32 for openvino")
    assert (
        time.monotonic() - before < 5
    )  # 0.4 s, when the machine does nothing else; torch alone takes longer


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PHOTOS": "/nowhere"}, "bake: PHOTOS is '/nowhere', which is no folder here."),
        ({"MODEL": "resnet18", "WEIGHTS": "/nowhere.pt"}, "bake: /nowhere.pt cannot be read here"),
        ({"PRECISION": "int4"}, "bake: PRECISION (number format"),
        ({"ENGINE": "torch", "PRECISION": "int8"}, "bake: ENGINE=torch has no PRECISION=int8"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, environment: dict[str, str], sentence: str, capsys):
    assert run(**environment) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(sentence)
    assert len(complaint.splitlines()) == 1


def test_for_torch_nothing_is_baked_but_the_model_is_tried(run, own_cache: Path, capsys):
    assert run(ENGINE="torch") == 0
    assert capsys.readouterr().out.startswith(
        "ENGINE=torch: nothing to bake. The weights of efficientnet_lite0"
    )
    assert not own_cache.exists()


def test_other_photos_bake_again_at_once_in_place_of_the_old(pets, tmp_path: Path, capsys):
    settings, few = pets("fp32"), photo_folder(tmp_path / "few", 3)
    folder = artefact_folder(settings, None)
    bake_once(settings, None, find_photos("", None))
    first, loaded = read_manifest(folder), load_classifier(settings, None)
    expected = answers(loaded)
    bake_once(settings, None, find_photos(str(few), None))
    second = read_manifest(folder)
    assert first
    assert second
    assert first.photos == "" != second.photos
    assert {file.name for file in folder.iterdir()} == {
        "manifest.json",
        second.network,
        second.network.replace(".xml", ".bin"),
    }
    assert_same(answers(loaded), expected)  # a worker keeps what it has loaded
    assert_same(answers(load_classifier(settings, None)), expected)
    capsys.readouterr()
    bake_once(settings, None, find_photos(str(few), None))
    assert capsys.readouterr().out.startswith("already baked")
    IMAGES[0].save(few / "0001.jpg", quality=50)
    assert find_photos(str(few), None).identity != second.photos


def test_weights_that_are_replaced_meanwhile_are_not_baked_in_the_name_of_the_old(
    pets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = pets("fp32")
    old = Path(settings.weights).read_bytes()
    expected = answers(load(settings.model_copy(update={"engine": "torch"})))

    def replaced_before(*arguments) -> TorchModel:
        state = state_dict(classes=7)
        saved(tmp_path, {**state, "fc.weight": -state["fc.weight"]})
        return load_model(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("worker.torch_network.load_model", replaced_before)
        with pytest.raises(ClassifierError, match="WEIGHTS or LABELS was replaced"):
            load(settings)
    Path(settings.weights).write_bytes(old)
    assert_same(answers(load(settings)), expected)


@pytest.mark.parametrize(
    ("child", "why"),
    [
        (CRASH, "it crashed with SIGFPE."),
        (("sh", "-c", "kill -ILL $$"), "it crashed with SIGILL."),
        (("sh", "-c", "echo 'no such kernel' >&2; exit 1"), "it failed: no such kernel."),
        (("sleep", "60"), "it took more than 0 s."),
    ],
)
def test_where_openvino_does_not_work_torch_does(
    pets, monkeypatch: pytest.MonkeyPatch, child, why: str, capsys
):
    monkeypatch.setattr(trial, "CHILD", child if child[0] != "sleep" else ("sh", "-c", "exec sleep 60"))
    monkeypatch.setattr(trial.try_networks, "__defaults__", (0.4,) if child[0] == "sleep" else (30,))
    classifier = load(pets("auto"))
    assert (classifier.engine, classifier.precision) == ("torch", "fp32")
    assert classifier.manifest.reason == f"OpenVINO cannot run the model on this processor: {why}"
    assert why in capsys.readouterr().out
    with pytest.raises(ClassifierError, match="PRECISION=int8 needs OpenVINO here: use fp32 or auto"):
        load(pets("int8"))


def test_confidences_other_than_torch_s_are_not_served(pets, monkeypatch: pytest.MonkeyPatch):
    def wrong(candidates, images, seconds=30.0):
        return [trial.Outcome(np.full((len(images), 7), 1 / 7, np.float32), 1) for _ in candidates]

    monkeypatch.setattr("worker.bake.baking.try_networks", wrong)
    classifier = load(pets("auto"))
    assert classifier.engine == "torch"
    assert "confidences differ from torch's by up to 0." in classifier.manifest.reason


def test_auto_with_too_few_photos_is_fp32_and_says_how_to_get_more(pets, tmp_path: Path):
    bake_once(pets("auto"), None, find_photos(str(photo_folder(tmp_path / "few", 5)), None))
    manifest = load_classifier(pets("auto"), None).manifest
    assert (manifest.engine, manifest.precision) == ("openvino", "fp32")
    assert "PRECISION is auto, which needs 300 photos" in manifest.reason
    assert "PHOTOS has only 5: set it to a folder" in manifest.reason


def test_auto_measures_and_prints_a_table(pets, photos: Path, capsys):
    bake_once(pets("auto"), None, find_photos(str(photos), None))
    printed = capsys.readouterr().out
    assert "measured with 40 photos on this processor:\n  precision  images/s  same label as fp32" in printed
    assert "\n  fp32 " in printed
    assert "━" not in printed
    manifest = load_classifier(pets("auto"), None).manifest
    assert manifest.precision in ("fp32", "bf16", "int8")
    assert manifest.reason.startswith(f"{manifest.precision} is the fastest of fp32")


def test_int8_is_computed_in_int8_and_agrees_on_most_photos(pets, photos: Path, capsys):
    settings = pets("int8")
    bake_once(settings, None, find_photos(str(photos), None))
    assert "\n  int8 " in capsys.readouterr().out
    quantised, exact = load_classifier(settings, None), load(pets("fp32"))
    assert quantised.precision == "int8"
    folders = [artefact_folder(one, None) for one in (settings, pets("fp32"))]
    small, large = (sum(file.stat().st_size for file in folder.glob("*.bin")) for folder in folders)
    assert small < large / 3
    prepared = find_photos(str(photos), None).prepare(exact.manifest.preprocessing)
    one, other = quantised.network(prepared), exact.network(prepared)
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.75
    assert abs(one - other).max() > 1e-4


def test_without_nncf_int8_is_refused_and_auto_goes_on(
    pets, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(quantise, "find_spec", lambda name: None)
    with pytest.raises(ClassifierError, match="int8 needs NNCF, which is not installed here"):
        load(pets("int8"))
    bake_once(pets("auto"), None, find_photos(str(photos), None))
    assert "left out: int8 needs NNCF" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_precision_that_the_processor_lacks_is_refused(
    pets, monkeypatch: pytest.MonkeyPatch, precision: str
):
    monkeypatch.setattr("worker.bake.baking.fast_precisions", lambda: [])
    with pytest.raises(ClassifierError, match=f"cannot run the model in {precision}: it has no instructions"):
        load(pets(precision))


def test_photos_may_lie_in_s3(clients: Clients, photos: Path):
    clients.s3.create_bucket(Bucket="models")
    for number, path in enumerate(sorted(photos.iterdir())[:3]):
        clients.s3.upload_file(str(path), "models", f"photos/{number}.jpg")
    clients.s3.put_object(Bucket="models", Key="photos/broken.jpg", Body=b"\xff\xd8\xff no photo")
    clients.s3.put_object(Bucket="models", Key="photos/notes.txt", Body=b"no photo")
    clients.s3.put_object(Bucket="models", Key="photos-of-others/1.jpg", Body=b"no photo")
    found = find_photos("s3://models/photos", clients.s3)
    constants = load(choice()).manifest.preprocessing
    assert len(found.readers) == 4
    assert found.prepare(constants).shape == (3, 224, 224, 3)
    clients.s3.delete_object(Bucket="models", Key="photos/0.jpg")
    assert find_photos("s3://models/photos", clients.s3).identity != found.identity
    with pytest.raises(ClassifierError, match="but there are no photos"):
        find_photos("s3://models/nothing/", clients.s3)
    with pytest.raises(CloudError):
        find_photos("s3://no-such-bucket/photos", clients.s3)


def test_packages_carry_photos():
    names = {path.name for path in packaged_photos()}
    assert {"cat.jpg", "chelsea.png", "coffee.png"} <= names
