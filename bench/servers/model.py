"""The model that all these servers have: the same weights, run by torch or by the engine of the workers."""

from io import BytesIO
from typing import Any

from PIL import Image

from cloud.settings import WorkerSettings

BATCH, WAIT_SECONDS = 8, 0.01
"""The most images in a batch, and how long a server waits for more of them."""


class TorchModel:
    """torchvision's transforms and torch, as the documentation of the servers has it."""

    def __init__(self, settings: WorkerSettings) -> None:
        from torchvision import transforms

        from worker.torch_network import load_model

        model = load_model(settings.model, settings.weights, settings.labels or None, lambda url: b"")
        self.network, self.labels = model.network, model.labels
        self.transform = transforms.Compose(
            [
                transforms.Resize(model.preprocessing.resize),
                transforms.CenterCrop(model.preprocessing.crop),
                transforms.ToTensor(),
                transforms.Normalize(model.preprocessing.mean, model.preprocessing.std),
            ]
        )

    def prepare(self, photo: bytes) -> Any:
        return self.transform(Image.open(BytesIO(photo)).convert("RGB"))

    def classify(self, batch: Any) -> list[str]:
        import torch

        with torch.inference_mode():
            return [self.labels[index] for index in self.network(torch.stack(tuple(batch))).argmax(1)]


class WorkersModel:
    """The baked model of the workers."""

    def __init__(self, settings: WorkerSettings) -> None:
        from worker.engine import load_classifier

        self.classifier = load_classifier(settings, None)

    def prepare(self, photo: bytes) -> Any:
        return self.classifier.prepare(Image.open(BytesIO(photo)).convert("RGB"))

    def classify(self, batch: Any) -> list[str]:
        return [top[0][0] for top in self.classifier.classify(list(batch))]


def load() -> TorchModel | WorkersModel:
    """Returns the model that MODEL and ENGINE name, as they do for a worker."""
    settings = WorkerSettings.without_buckets()
    return TorchModel(settings) if settings.engine == "torch" else WorkersModel(settings)
