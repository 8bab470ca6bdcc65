import hashlib
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, get_model, get_model_weights

from bench.photos import PHOTOS
from cloud.errors import CloudError
from cloud.image_file import decode
from worker.engine import (
    IMAGENET,
    LITE0,
    RESNETS,
    Classifier,
    ClassifierError,
    fetch_weights,
    load_classifier,
)

IMAGES = [decode(data) for data, _ in PHOTOS.values()]
CATEGORIES = ResNet18_Weights.DEFAULT.meta["categories"]


def no_s3(url: str) -> bytes:
    raise CloudError(f"could not read {url}")


@pytest.fixture(scope="module")
def lite0() -> Classifier:
    return load_classifier(LITE0, IMAGENET, None, no_s3)


def state_dict(model: str = "resnet18", classes: int = 1000) -> dict[str, Tensor]:
    """Not of a trained model, but of one that tells these photos apart."""
    torch.manual_seed(classes)
    network = get_model(model, weights=None, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all that was seen
    batch = torch.stack([get_model_weights(model).DEFAULT.transforms()(image) for image in IMAGES])
    with torch.no_grad():
        network.train()(batch)
        logits = network.eval()(batch)
        scale = 3 / (logits - logits.mean(0)).std()
        network.fc.weight *= scale
        network.fc.bias.copy_((network.fc.bias - logits.mean(0)) * scale)
    return network.state_dict()


def saved(folder: Path, content: object, name: str = "pets.pt") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def lines(folder: Path, count: int) -> str:
    (folder / "labels.txt").write_text("\n".join(f"pet {n}" for n in range(count)) + "\n", encoding="utf-8")
    return str(folder / "labels.txt")


def answers(classifier: Classifier) -> list[list[tuple[str, float]]]:
    return classifier.classify([classifier.prepare(image) for image in IMAGES])


def torchvisions_answers(
    model: str, state: dict[str, Tensor], labels: list[str]
) -> list[list[tuple[str, float]]]:
    """What torchvision says when called as its documentation does."""
    network = get_model(model, weights=None, num_classes=len(labels)).eval()
    network.load_state_dict(state)
    transform = get_model_weights(model).DEFAULT.transforms()
    with torch.inference_mode():
        tops = [network(transform(image)[None]).softmax(1)[0].topk(min(5, len(labels))) for image in IMAGES]
    return [
        [(labels[i], v) for i, v in zip(t.indices.tolist(), t.values.tolist(), strict=True)] for t in tops
    ]


def assert_same(one: list[list[tuple[str, float]]], other: list[list[tuple[str, float]]]) -> None:
    assert [[label for label, _ in top] for top in one] == [[label for label, _ in top] for top in other]
    for top, same in zip(one, other, strict=True):
        assert [c for _, c in top] == pytest.approx([c for _, c in same], abs=1e-3)


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


def test_a_photo_of_any_shape_is_prepared_without_filling_memory(lite0: Classifier):
    for size in [(1, 1), (1, 60_000), (60_000, 1), (5000, 700)]:
        tensor = lite0.prepare(Image.new("RGB", size))
        assert tensor.shape == (3, 224, 224)
        assert tensor.dtype == torch.float32


def test_lite0_sees_colours_from_minus_one_to_one(lite0: Classifier):
    for colour, value in [("black", -1), ("white", 1)]:
        tensor = lite0.prepare(Image.new("RGB", (300, 400), colour))
        assert torch.allclose(tensor, torch.tensor(float(value)), atol=0.01)


def test_the_far_ends_of_a_panorama_do_not_count(lite0: Classifier):
    cat = IMAGES[0].resize((512, 512))
    panorama = Image.new("RGB", (512 * 7, 512), "blue")
    panorama.paste(cat, (512 * 3, 0))
    whole = lite0.transform(panorama)
    assert torch.allclose(lite0.prepare(panorama), whole, atol=1e-6)


def test_several_threads_may_use_one_classifier(lite0: Classifier):
    found: list[list[list[tuple[str, float]]]] = []
    threads = [threading.Thread(target=lambda: found.append(answers(lite0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for others in found[1:]:
        assert_same(found[0], others)


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_own_weights_with_own_labels_answer_as_torchvision_does(tmp_path: Path, model: str):
    state = state_dict(model, 7)
    classifier = load_classifier(model, saved(tmp_path, state), lines(tmp_path, 7), no_s3)
    assert classifier.model == f"{model} (pets.pt)"
    expected = torchvisions_answers(model, state, [f"pet {n}" for n in range(7)])
    assert len({top[0][0] for top in expected}) > 1
    assert_same(answers(classifier), expected)


def test_own_weights_of_1000_classes_have_imagenet_s_labels(tmp_path: Path):
    state = state_dict()
    classifier = load_classifier("resnet18", saved(tmp_path, state), None, no_s3)
    assert_same(answers(classifier), torchvisions_answers("resnet18", state, CATEGORIES))


def test_with_three_classes_there_are_three_predictions(tmp_path: Path):
    classifier = load_classifier(
        "resnet18", saved(tmp_path, state_dict(classes=3)), lines(tmp_path, 3), no_s3
    )
    for top in answers(classifier):
        assert {label for label, _ in top} == {"pet 0", "pet 1", "pet 2"}
        assert sum(confidence for _, confidence in top) == pytest.approx(1, abs=1e-5)


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "args": {"lr": 0.1}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        without_counters,
        lambda state: {name: value.double() for name, value in state.items()},
    ],
)
def test_state_dicts_are_taken_as_training_scripts_save_them(tmp_path: Path, wrap: Callable[[dict], dict]):
    state = state_dict(classes=7)
    plain = load_classifier("resnet18", saved(tmp_path, state), lines(tmp_path, 7), no_s3)
    wrapped = load_classifier("resnet18", saved(tmp_path, wrap(state)), lines(tmp_path, 7), no_s3)
    assert_same(answers(wrapped), answers(plain))


def test_weights_and_labels_come_from_s3_too(tmp_path: Path):
    weights, labels = saved(tmp_path, state_dict(classes=7)), lines(tmp_path, 7)
    bucket = {"s3://models/v1/dogs.pt": Path(weights), "s3://models/dogs.txt": Path(labels)}
    classifier = load_classifier(
        "resnet18", "s3://models/v1/dogs.pt", "s3://models/dogs.txt", lambda url: bucket[url].read_bytes()
    )
    assert classifier.model == "resnet18 (dogs.pt)"
    assert_same(answers(classifier), answers(load_classifier("resnet18", weights, labels, no_s3)))


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_imagenet_is_torchvision_s_own_with_its_transforms_and_categories(torch_cache: Path, model: str):
    torch_cache.mkdir(parents=True)
    state = state_dict(model)
    saved(torch_cache, state, get_model_weights(model).DEFAULT.url.rpartition("/")[2])
    classifier = load_classifier(model, IMAGENET, None, no_s3)
    assert classifier.model == f"{model} (imagenet)"
    assert_same(answers(classifier), torchvisions_answers(model, state, CATEGORIES))


def test_any_resnet_of_torchvision_can_be_named():
    assert set(RESNETS) == {
        *(
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "wide_resnet50_2",
            "wide_resnet101_2",
        ),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    }


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_weights_that_carry_code_are_refused_and_do_not_run(tmp_path: Path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    for path in (str(tmp_path / "evil.pt"), saved(tmp_path, {"fc.weight": Touch(tmp_path / "ran")})):
        with pytest.raises(ClassifierError, match="is not a state dict"):
            load_classifier("resnet18", path, None, no_s3)
    assert not (tmp_path / "ran").exists()


def refusal(model: str, weights: str, labels: str | None = None) -> str:
    with pytest.raises(ClassifierError) as caught:
        load_classifier(model, weights, labels, no_s3)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_wrong_setting_is_a_sentence_of_its_own(tmp_path: Path):
    (tmp_path / "junk.pt").write_bytes(b"not weights" * 100)
    (tmp_path / "latin.txt").write_bytes("\n".join(["é"] * 7).encode("latin-1"))
    seven = saved(tmp_path, state_dict(classes=7))
    damaged = saved(tmp_path, {**state_dict(), "fc.bias": torch.zeros(3)}, "damaged.pt")
    assert "MODEL is 'resnet20'; it can be one of resnet" in refusal("resnet20", IMAGENET)
    assert "No such file" in refusal("resnet18", str(tmp_path / "missing.pt"))
    assert "could not read s3://models/a.pt" in refusal("resnet18", "s3://models/a.pt")
    assert "junk.pt is not a state dict" in refusal("resnet18", str(tmp_path / "junk.pt"))
    assert "no state dict" in refusal("resnet18", saved(tmp_path, [1, 2], "list.pt"))
    assert "no fc.weight" in refusal("resnet18", saved(tmp_path, {"a": torch.zeros(1)}, "other.pt"))
    assert "7 classes: set LABELS" in refusal("resnet18", seven)
    assert "names 6 classes, but the weights know 7" in refusal("resnet18", seven, lines(tmp_path, 6))
    assert "not UTF-8" in refusal("resnet18", seven, str(tmp_path / "latin.txt"))
    assert "No such file" in refusal("resnet18", seven, str(tmp_path / "missing.txt"))
    assert "are not those of a resnet50: Missing key" in refusal("resnet50", seven, lines(tmp_path, 7))
    assert "are not those of a resnet18: size mismatch for fc.bias" in refusal("resnet18", damaged)
    assert "set WEIGHTS to imagenet" in refusal(LITE0, seven)


def test_half_a_state_dict_is_no_classifier(tmp_path: Path):
    half = dict(list(state_dict().items())[-40:])
    assert "Missing key" in refusal("resnet18", saved(tmp_path, half))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, bytes], None]]:
    """`serve(promised, sent)`: a server answers `sent` where resnet18's URL has the hash of `promised`."""
    body = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def serve(promised: bytes, sent: bytes) -> None:
        nonlocal body
        body = sent
        file = f"resnet18-{hashlib.sha256(promised).hexdigest()[:8]}.pth"
        url = f"http://127.0.0.1:{httpd.server_port}/models/{file}"
        monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", url)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield serve
        httpd.shutdown()
        thread.join()


def test_weights_are_fetched_once_into_torch_s_cache(
    torch_cache: Path, server: Callable[[bytes, bytes], None]
):
    stream = BytesIO()
    torch.save(state_dict(), stream)
    server(stream.getvalue(), stream.getvalue())
    file = fetch_weights("resnet18")
    assert file.parent == torch_cache
    assert file.read_bytes() == stream.getvalue()
    server(stream.getvalue(), b"this is not asked for again")
    assert fetch_weights("resnet18") == file
    assert load_classifier("resnet18", IMAGENET, None, no_s3).labels == tuple(CATEGORIES)


def test_weights_other_than_promised_are_thrown_away(
    torch_cache: Path, server: Callable[[bytes, bytes], None]
):
    server(b"weights", b"half of the wei")
    with pytest.raises(ClassifierError, match=r"cannot be fetched from .* invalid hash value"):
        fetch_weights("resnet18")
    assert list(torch_cache.iterdir()) == []


def test_a_network_that_drops_everything_cannot_hang_the_start(
    torch_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-01234567.pth"
        monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        started, before = time.monotonic(), socket.getdefaulttimeout()
        with pytest.raises(ClassifierError, match=r"cannot be fetched from .*timed out"):
            fetch_weights("resnet18", timeout=0.3)
    assert time.monotonic() - started < 10
    assert socket.getdefaulttimeout() == before
    assert list(torch_cache.iterdir()) == []


def test_without_its_weights_there_is_no_classifier(torch_cache: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(
        ResNet18_Weights.DEFAULT.value, "url", f"http://127.0.0.1:{port}/resnet18-01234567.pth"
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "The weights of resnet18 cannot be fetched from http" in refusal("resnet18", IMAGENET)


def test_lite0_s_weights_are_on_this_machine_already(torch_cache: Path):
    assert fetch_weights(LITE0).suffix == ".pth"
    assert not torch_cache.exists()
