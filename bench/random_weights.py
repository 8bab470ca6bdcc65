"""Weights for a network of torchvision, where the published ones cannot be had."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights


def random_weights(model: str, photos: Sequence[Image.Image], classes: int = 1000) -> dict[str, Tensor]:
    """Returns the state dict of a network that is not trained, but tells these photos apart.

    Its weights are random, always the same ones, with the statistics of the photos and a last layer that
    spreads their logits.
    """
    torch.manual_seed(classes)
    network = get_model(model, weights=None, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of all images that were seen
    transform = get_model_weights(model).DEFAULT.transforms()
    batch = torch.stack([transform(photo) for photo in photos])
    with torch.no_grad():
        network.train()(batch)
        logits = network.eval()(batch)
        scale = 3 / (logits - logits.mean(0)).std()
        network.fc.weight *= scale
        network.fc.bias.copy_((network.fc.bias - logits.mean(0)) * scale)
    return network.state_dict()
