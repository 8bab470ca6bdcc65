"""An AWS of its own without a controller: the test itself puts images into the queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import pytest

from bench.photos import PHOTOS
from cloud.buckets import InputBucket, OutputBucket
from cloud.clients import Clients, make_clients
from cloud.image_id import ImageId, new_request_id
from cloud.prediction import Prediction
from cloud.provision import provision
from cloud.request_queue import RequestQueue
from cloud.settings import WorkerSettings
from local.driver import eventually
from local.endpoint import Endpoint


@dataclass
class Cloud:
    endpoint: Endpoint
    clients: Clients
    settings: WorkerSettings
    access: dict[str, str]
    """How a worker gets there; on AWS its machine has the like of it."""

    def __post_init__(self) -> None:
        self.inputs = InputBucket(self.clients.s3, self.settings.input_bucket)
        self.outputs = OutputBucket(self.clients.s3, self.settings.output_bucket)
        self.queue = RequestQueue(self.clients.sqs, self.settings.request_queue)

    @property
    def worker_environment(self) -> dict[str, str]:
        return self.settings.for_workers() | self.access

    def put(self, name: str, count: int = 1) -> list[ImageId]:
        """So many images of that photo, and their messages. The image-ids."""
        request_id = new_request_id()
        image_ids = [ImageId.make(request_id, n, f"{name}.jpg") for n in range(count)]
        for key in image_ids:
            self.inputs.put_image(key, BytesIO(PHOTOS[name][0]), "image/jpeg")
        self.queue.send(image_ids)
        return image_ids

    def answered(self, image_ids: list[ImageId]) -> list[ImageId]:
        return self.outputs.answered(image_ids[0].request_id)

    def label(self, image_id: ImageId, seconds: float = 60) -> str | None:
        """Of that image, as soon as it is answered."""
        answer: Prediction = eventually(lambda: self.outputs.get_prediction(image_id), seconds)
        return answer.label

    def launch(self, user_data: str) -> str:
        """An instance with that user data, without a machine. The address of its metadata service."""
        found = self.clients.ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, UserData=user_data
        )
        return self.endpoint.metadata_url(found["Instances"][0]["InstanceId"])

    def instances(self) -> list[object]:
        found: list[object] = self.clients.ec2.describe_instances()["Reservations"]
        return found


@contextmanager
def bare_cloud(**more: object) -> Iterator[Cloud]:
    endpoint = Endpoint()
    access = {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_REGION": endpoint.region,
        **endpoint.key.environment(),
    }
    settings = WorkerSettings(
        **{
            "input_bucket": "test-input",
            "output_bucket": "test-output",
            "model": "efficientnet_lite0",
            "idle_shutdown_seconds": 0,
            "visibility_timeout": 600,
            **more,
        }
    )
    endpoint.start()
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in access.items():
                environment.setenv(name, value)
            clients = make_clients()
        provision(clients.s3, clients.sqs, settings)
        yield Cloud(endpoint, clients, settings, access | {"AWS_EC2_METADATA_DISABLED": "true"})
    finally:
        endpoint.stop()
