"""A model that is loaded answers the same with both engines, and as torchvision itself does."""

import os
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from torchvision.models import get_model_weights

from bench.photos import PHOTOS
from cloud.clients import Clients
from cloud.image_file import decode
from tests.support.models import (
    CATEGORIES,
    IMAGES,
    Answer,
    answers,
    assert_same,
    choice,
    lines,
    load,
    saved,
    state_dict,
    torchvisions_answers,
)
from worker import engine as engine_module
from worker.artefact import ClassifierError
from worker.engine import CODE, Classifier, load_classifier


def test_real_photos_get_their_right_names(lite0: Classifier):
    assert lite0.model == "efficientnet_lite0 (imagenet)"
    for (name, (_, right)), top in zip(PHOTOS.items(), answers(lite0), strict=True):
        assert top[0][0] in right, name
        assert len(top) == 5
        assert sorted((confidence for _, confidence in top), reverse=True) == [c for _, c in top]
        assert 0 < sum(confidence for _, confidence in top) <= 1


def test_a_photo_s_answer_does_not_depend_on_its_companions(lite0: Classifier):
    tensors = [lite0.prepare(image) for image in IMAGES * 2]
    assert_same(lite0.classify(tensors), [lite0.classify([tensor])[0] for tensor in tensors])


def test_twenty_labels_begin_with_the_five(lite0: Classifier):
    tensors = [lite0.prepare(image) for image in IMAGES]
    twenty = lite0.classify(tensors, 20)
    assert [len(top) for top in twenty] == [20] * len(IMAGES)
    assert_same([top[:5] for top in twenty], lite0.classify(tensors))


def test_shrinking_while_decoding_leaves_the_label(lite0: Classifier):
    for data, right in PHOTOS.values():
        image = Image.open(BytesIO(data))
        stream = BytesIO()
        image.resize((3000 * image.width // image.height, 3000)).save(stream, "JPEG", quality=92)
        shrunk, full = decode(stream.getvalue()), Image.open(stream).convert("RGB")
        assert shrunk.height < full.height
        (top, *_), (full_top, *_) = lite0.classify([lite0.prepare(shrunk), lite0.prepare(full)])
        assert top[0] in right
        assert top[1] == pytest.approx(full_top[1], abs=0.05)


def test_several_threads_may_use_one_classifier(lite0: Classifier):
    found: list[list[Answer]] = []
    threads = [threading.Thread(target=lambda: found.append(answers(lite0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for others in found[1:]:
        assert_same(found[0], others)


def test_own_weights_with_own_labels_answer_as_torchvision_does(tmp_path: Path, engine: str):
    state = state_dict("resnet18", 7)
    classifier = load(choice("resnet18", engine, weights=saved(tmp_path, state), labels=lines(tmp_path, 7)))
    assert classifier.model == "resnet18 (pets.pt)"
    assert (classifier.engine, classifier.precision) == (engine, "fp32")
    expected = torchvisions_answers("resnet18", state, [f"pet {n}" for n in range(7)])
    assert len({top[0][0] for top in expected}) > 1
    assert_same(answers(classifier), expected)


def test_own_weights_of_1000_classes_have_imagenet_s_labels(tmp_path: Path, engine: str):
    state = state_dict()
    classifier = load(choice("resnet18", engine, weights=saved(tmp_path, state)))
    assert_same(answers(classifier), torchvisions_answers("resnet18", state, CATEGORIES))


def test_with_three_classes_there_are_three_predictions(tmp_path: Path, engine: str):
    weights, labels = saved(tmp_path, state_dict(classes=3)), lines(tmp_path, 3)
    for top in answers(load(choice("resnet18", engine, weights=weights, labels=labels))):
        assert {label for label, _ in top} == {"pet 0", "pet 1", "pet 2"}
        assert sum(confidence for _, confidence in top) == pytest.approx(1, abs=1e-5)


def test_weights_and_labels_come_from_s3_too(tmp_path: Path, clients: Clients, engine: str):
    state = state_dict(classes=7)
    clients.s3.create_bucket(Bucket="models")
    clients.s3.upload_file(saved(tmp_path, state), "models", "v1/dogs.pt")
    clients.s3.upload_file(lines(tmp_path, 7), "models", "dogs.txt")
    in_s3 = choice("resnet18", engine, weights="s3://models/v1/dogs.pt", labels="s3://models/dogs.txt")
    classifier = load(in_s3, clients.s3)
    assert classifier.model == "resnet18 (dogs.pt)"
    assert_same(answers(classifier), torchvisions_answers("resnet18", state, [f"pet {n}" for n in range(7)]))


def test_imagenet_is_torchvision_s_own_with_its_transforms_and_categories(
    torch_cache: Path, own_cache: Path, engine: str
):
    """Of a model whose blocks differ from those of resnet18, with which the other tests are."""
    torch_cache.mkdir(parents=True)
    state = state_dict("resnext50_32x4d")
    saved(torch_cache, state, get_model_weights("resnext50_32x4d").DEFAULT.url.rpartition("/")[2])
    classifier = load(choice("resnext50_32x4d", engine))
    assert classifier.model == "resnext50_32x4d (imagenet)"
    assert_same(answers(classifier), torchvisions_answers("resnext50_32x4d", state, CATEGORIES))


def test_a_model_that_cannot_be_loaded_is_refused_by_a_sentence(tmp_path: Path, engine: str):
    seven = saved(tmp_path, state_dict(classes=7))
    with pytest.raises(ClassifierError, match="The weights know 7 classes: set LABELS") as caught:
        load_classifier(choice("resnet18", engine, weights=seven), None)
    assert "\n" not in str(caught.value)


def test_torch_has_no_int8():
    with pytest.raises(ClassifierError, match="ENGINE=torch has no PRECISION=int8: use fp32 or bf16"):
        load_classifier(choice(engine="torch", precision="int8"), None)


@pytest.mark.parametrize(("precision", "used"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_torch_s_precision_is_fp32_unless_bf16_is_asked_for(precision: str, used: str):
    assert load_classifier(choice(engine="torch", precision=precision), None).precision == used


def test_a_baked_model_is_loaded_and_classifies_without_torch(model_cache: Path):
    load(choice())
    program = (
        "import sys; from pathlib import Path; from worker.engine import load_classifier\n"
        "from cloud.image_file import decode; from cloud.settings import WorkerSettings\n"
        "classifier = load_classifier(WorkerSettings.from_environment(), None)\n"
        "cat = classifier.prepare(decode(Path('deploy/cat.jpg').read_bytes()))\n"
        "print(classifier.classify([cat])[0][0][0])\n"
        "print(sorted({'torch', 'torchvision', 'nncf', 'openvino_telemetry.main'} & set(sys.modules)))"
    )
    needed = {name.upper(): value for name, value in choice().for_workers().items()}
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=CODE, env=os.environ | needed, capture_output=True, text=True
    )
    assert child.stdout.splitlines() == ["tiger cat", "[]"], child.stderr


def test_a_worker_without_torch_says_what_to_run(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with pytest.raises(
        ClassifierError, match=r"no baked model for MODEL=efficientnet_lite0 .*worker\.bake"
    ) as caught:
        load_classifier(choice(), None)
    assert str(own_cache) in str(caught.value)
    with pytest.raises(ClassifierError, match="torch is not installed here"):
        load_classifier(choice(engine="torch"), None)
