"""Converts the network of torch to one of OpenVINO that takes the pixels of images."""

import warnings

import torch
from torch import Tensor, nn

from worker.quiet_openvino import openvino
from worker.torch_network import TorchModel


class Confidences(nn.Module):
    """The network with a softmax behind it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images).softmax(dim=1)
        return found


def convert(model: TorchModel) -> openvino.Model:
    """Returns the network as `Network` describes it: it takes uint8 pixels and returns confidences."""
    constants = model.preprocessing
    side = constants.crop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of itself
        converted = openvino.convert_model(
            Confidences(model.network).eval(),
            example_input=torch.zeros(1, 3, side, side),
            input=[openvino.PartialShape([-1, 3, side, side])],
        )
    steps = openvino.preprocess.PrePostProcessor(converted)
    pixels = steps.input()
    pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    pixels.model().set_layout(openvino.Layout("NCHW"))
    pixels.preprocess().convert_element_type(openvino.Type.f32)
    pixels.preprocess().mean([255 * value for value in constants.mean])
    pixels.preprocess().scale([255 * value for value in constants.std])
    return steps.build()
