"""A cache of baked models that the tests share, so that each is baked once; a worker with a small model."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

from cloud.batches.store import BatchStore, queue_name
from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.clients import Clients
from cloud.image_id import ImageId, new_request_id
from cloud.request_queue import RequestQueue
from cloud.settings import ControllerSettings
from local.driver import eventually
from tests.support.batches import Lab
from tests.support.small_worker import MAX_RECEIVES, Brightness, running
from worker.consumer import Consumer
from worker.decoder import Decoder
from worker.decoder_limits import QUICK
from worker.engine import Classifier
from worker.heartbeat import Heartbeat
from worker.pipeline import Pipeline
from worker.slices import Slices
from worker.steps import Steps


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MODEL_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of baked models, for one test."""
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["openvino", "torch"], scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def lite0_by_engine(model_cache: Path) -> Callable[[str], Classifier]:
    from tests.support.models import choice, load  # not at the top, because most tests here need no torch

    return cache(lambda engine: load(choice(engine=engine)))


@pytest.fixture
def lite0(lite0_by_engine: Callable[[str], Classifier], engine: str) -> Classifier:
    return lite0_by_engine(engine)


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def model() -> Brightness:
    return Brightness()


@pytest.fixture
def make_loop(
    queue: RequestQueue, inputs: InputBucket, outputs: OutputBucket, model: Brightness
) -> Iterator[Callable[..., Consumer]]:
    with ExitStack() as decoders:
        yield lambda limits=QUICK: Consumer(
            queue,
            Steps(inputs, outputs, model, "i-test", MAX_RECEIVES),
            Pipeline(
                model,
                Heartbeat(queue, 20, on_hang=lambda: None),
                [decoders.enter_context(Decoder(limits))],
            ),
            idle_seconds=0.01,
        )


@pytest.fixture
def lab(aws: Clients, settings: ControllerSettings, state: Bucket, outputs: OutputBucket) -> Lab:
    name = queue_name(settings.request_queue)
    aws.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "20"})
    return Lab(aws.s3, BatchStore(state, outputs), RequestQueue(aws.sqs, name))


@pytest.fixture
def make_batch_loop(make_loop: Callable[..., Consumer], lab: Lab) -> Callable[[], Consumer]:
    """Workers that take part in batches. What one of them leaves to others comes back at once."""

    def make() -> Consumer:
        loop = make_loop()
        loop.slices = Slices(lab.queue, lab.store, lab.s3, loop.pipeline, MAX_RECEIVES)
        loop.slices.last_step.visibility_timeout = 0
        loop.idle_seconds = 0
        return loop

    return make


@pytest.fixture
def finish(lab: Lab) -> Callable[[Consumer], None]:
    """Lets a worker run until nothing is left to do."""

    def finish(loop: Consumer) -> None:
        with running(loop):
            eventually(
                lambda: lab.queue.counts().backlog == loop.queue.counts().backlog == 0 and not loop.busy(), 60
            )

    return finish


@pytest.fixture
def ask(queue: RequestQueue, inputs: InputBucket) -> Callable[..., list[ImageId]]:
    """Puts images and their messages; returns the image-ids."""

    def ask(*bodies: bytes) -> list[ImageId]:
        ids = [ImageId.make(new_request_id(), n, f"{n}.png") for n in range(len(bodies))]
        for one, body in zip(ids, bodies, strict=True):
            inputs.put_image(one, BytesIO(body), "image/png")
        queue.send(ids)
        return ids

    return ask
