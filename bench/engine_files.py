"""Writes a model as the files of each engine.

`python -m bench.engine_files MODEL FOLDER CALIBRATION ENGINE…` finds the photos in FOLDER/photos. The first
CALIBRATION of them calibrate int8. The weights are those of ImageNet if they are in torch's cache. If not,
they are random, with the statistics of the photos and a last layer that tells them apart.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from bench.random_weights import random_weights
from cloud.image_file import decode
from worker.bake.convert import Confidences, convert
from worker.bake.quantise import quantise
from worker.pixels import Pixels
from worker.quiet_openvino import openvino
from worker.torch_network import LITE0, TorchModel, load_model


def weights_of(model: str, folder: Path) -> str:
    """Returns the value of WEIGHTS for the model. Writes a state dict if the published one is not here."""
    (folder / "weights.pt").unlink(missing_ok=True)
    if model == LITE0:
        return "imagenet"
    file = Path(torch.hub.get_dir(), "checkpoints", get_model_weights(model).DEFAULT.url.rpartition("/")[2])
    return "imagenet" if file.exists() else str(write_random_weights(model, folder))


def write_random_weights(model: str, folder: Path) -> Path:
    photos = [decode(file.read_bytes()) for file in sorted((folder / "photos").iterdir())[:24]]
    torch.save(random_weights(model, photos), folder / "weights.pt")
    return folder / "weights.pt"


class FromPixels(nn.Module):
    """The network as worker.artefact.Network describes it, for the export to ONNX."""

    def __init__(self, model: TorchModel) -> None:
        super().__init__()
        self.network = Confidences(model.network)
        constants = model.preprocessing
        self.mean = 255 * torch.tensor(constants.mean)[:, None, None]
        self.std = 255 * torch.tensor(constants.std)[:, None, None]

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return found


def write_onnx(model: TorchModel, photos: Pixels, folder: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):
        def __init__(self) -> None:
            self.photos: Iterator[dict[str, Pixels]] = iter([{"pixels": photo[None]} for photo in photos])

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self.photos, None)

    side = model.preprocessing.crop
    torch.onnx.export(
        FromPixels(model).eval(),
        (torch.zeros(1, side, side, 3, dtype=torch.uint8),),
        folder / "fp32.onnx",
        input_names=["pixels"],
        dynamic_axes={"pixels": {0: "images"}},
        dynamo=False,  # ten times as fast as the newer exporter, and the same network
    )
    quant_pre_process(folder / "fp32.onnx", folder / "prepared.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "prepared.onnx",
        folder / "int8.onnx",
        Photos(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )


def main(name: str, folder: Path, calibration: int, engines: list[str]) -> None:
    weights = weights_of(name, folder)
    (folder / "weights.txt").write_text(weights)
    model = load_model(name, weights, None, lambda url: b"")
    photos = np.stack(
        [model.preprocessing.prepare(decode(f.read_bytes())) for f in sorted((folder / "photos").iterdir())]
    )
    np.save(folder / "pixels.npy", photos[calibration:])
    network = convert(model)
    openvino.save_model(network, folder / "fp32.xml", compress_to_fp16=False)
    openvino.save_model(quantise(network, photos[:calibration]), folder / "int8.xml", compress_to_fp16=False)
    if "onnxruntime" in engines:
        write_onnx(model, photos[:calibration], folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
