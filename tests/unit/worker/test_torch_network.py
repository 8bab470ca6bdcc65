"""The networks of torchvision: which weights and labels are taken, and how others are refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cloud.errors import CloudError
from tests.support.models import IMAGES, LITE0, lines, saved, state_dict
from worker.artefact import ClassifierError
from worker.torch_network import (
    GPU_BATCHES,
    IMAGENET,
    RESNETS,
    load_model,
    on_gpu,
    padded,
    torch_network,
)


def no_s3(url: str) -> bytes:
    raise CloudError(f"could not read {url}")


def torch_answers(model: str, weights: str, labels: str | None) -> np.ndarray:
    loaded = load_model(model, weights, labels, no_s3)
    return torch_network(loaded, "fp32")(np.stack([loaded.preprocessing.prepare(image) for image in IMAGES]))


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
    plain = torch_answers("resnet18", saved(tmp_path, state), lines(tmp_path, 7))
    wrapped = torch_answers("resnet18", saved(tmp_path, wrap(state)), lines(tmp_path, 7))
    assert np.allclose(wrapped, plain, atol=1e-5)
    assert len(set(plain.argmax(1))) > 1


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
            load_model("resnet18", path, None, no_s3)
    assert not (tmp_path / "ran").exists()


def refusal(model: str, weights: str, labels: str | None = None) -> str:
    with pytest.raises(ClassifierError) as caught:
        load_model(model, weights, labels, no_s3)
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
    (tmp_path / "long.txt").write_text("\n".join("abcdef") + "\n" + "ก" * 101)
    assert "with over 300 bytes" in refusal("resnet18", seven, str(tmp_path / "long.txt"))
    assert "are not those of a resnet50: Missing key" in refusal("resnet50", seven, lines(tmp_path, 7))
    assert "are not those of a resnet18: size mismatch for fc.bias" in refusal("resnet18", damaged)
    assert "set WEIGHTS to imagenet" in refusal(LITE0, seven)


def test_half_a_state_dict_is_no_classifier(tmp_path: Path):
    half = dict(list(state_dict().items())[-40:])
    assert "Missing key" in refusal("resnet18", saved(tmp_path, half))


def test_bf16_answers_nearly_as_fp32_does_and_int8_is_refused():
    model = load_model(LITE0, IMAGENET, None, no_s3)
    pixels = np.stack([model.preprocessing.prepare(image) for image in IMAGES])
    exact, rounded = torch_network(model, "fp32")(pixels), torch_network(model, "bf16")(pixels)
    assert 0 < abs(exact - rounded).max() < 0.1
    with pytest.raises(ClassifierError, match="ENGINE=torch has no PRECISION=int8: use fp32 or bf16"):
        torch_network(model, "int8")


def test_the_log_says_where_torch_runs_the_model(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.torch_network.on_gpu", lambda: False)
    with caplog.at_level("INFO", "worker.torch_network"):
        torch_network(load_model(LITE0, IMAGENET, None, no_s3), "fp32")
    assert "torch runs the model on the processor, as there is no GPU" in caplog.messages


def test_a_batch_for_a_gpu_is_filled_up_to_one_of_few_sizes():
    images = np.full((9, 2, 2, 3), 7, np.uint8)
    filled = padded(images)
    assert len(filled) == GPU_BATCHES[-1]
    assert (filled[:9] == images).all()
    assert not filled[9:].any()
    assert len(padded(images[:8])) == 8


@pytest.mark.skipif(not on_gpu(), reason="This machine has no GPU that torch can use.")
def test_a_gpu_gives_the_answers_of_the_processor(monkeypatch: pytest.MonkeyPatch):
    on_the_gpu = torch_answers(LITE0, IMAGENET, None)
    monkeypatch.setattr("worker.torch_network.on_gpu", lambda: False)
    assert np.abs(on_the_gpu - torch_answers(LITE0, IMAGENET, None)).max() < 1e-5
