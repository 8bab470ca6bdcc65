"""AWS in this process (moto), empty for each test and provisioned as `cloud.provision` does it."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import formatdate
from io import BytesIO
from typing import Any

import hypothesis
import pytest
from flask import Flask
from moto import mock_aws

import cloud.clock
from cloud.batches.store import queue_name
from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.clients import Client, Clients, make_clients
from cloud.prediction import Prediction
from cloud.provision import provision
from cloud.request_queue import RequestQueue
from cloud.settings import ControllerSettings
from controller.app import create_app
from controller.container import assemble
from controller.web.services import Services
from local.s3 import mend_moto
from tests.support.batch_work import SOURCE
from tests.support.pictures import picture
from tests.support.threads import join_threads

hypothesis.settings.register_profile("patient", deadline=None)  # the machine may be busy
hypothesis.settings.load_profile("patient")

SAMPLE = "sample"
"""The property (`record_property`) in which a test says which sample of the inputs or faults it has tried."""

OnCall = Callable[[Client, str, Callable[[dict[str, Any]], None]], None]
OnReply = Callable[[Client, str, Callable[[dict[str, Any]], None]], None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the samples at the end, also those of the processes of pytest-xdist."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    said = [text for r in reports for name, text in getattr(r, "user_properties", []) if name == SAMPLE]
    for text in dict.fromkeys(said):
        terminalreporter.write_line(text)


@pytest.fixture
def settings_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No setting is set, whatever the developer's shell has."""
    for name in ControllerSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def settings(settings_environment: pytest.MonkeyPatch) -> ControllerSettings:
    return ControllerSettings(
        input_bucket="test-input",
        output_bucket="test-output",
        request_queue="test-requests",
        ami_id="ami-12c6146b",
        max_instances=5,
        max_images_per_instance=10,
        max_files=5,
        max_upload_mb=1,
        request_timeout=5,
    )


@pytest.fixture(scope="session")
def unmocked_clients() -> Clients:
    """Made once, since making them takes long. They reach moto while a mock is on, and nothing otherwise."""
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_CONFIG_FILE"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_REGION", "us-east-1")
        return make_clients()


@pytest.fixture
def clients(unmocked_clients: Clients, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """An empty AWS, whose conditional writes are atomic."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # thousands, anew for each test
    mend_moto()
    with mock_aws():
        yield unmocked_clients
        join_threads("sweep")  # else a sweep would go on in the AWS of the next test


@pytest.fixture
def aws(clients: Clients, settings: ControllerSettings, s3_clock: "S3Clock", launch_all: None) -> Clients:
    """An AWS with what `cloud.provision` makes, and with AWS's own ways where moto's differ."""
    provision(clients.s3, clients.sqs, settings)
    return clients


@pytest.fixture
def inputs(aws: Clients, settings: ControllerSettings) -> InputBucket:
    return InputBucket(aws.s3, settings.input_bucket)


@pytest.fixture
def outputs(aws: Clients, settings: ControllerSettings) -> OutputBucket:
    return OutputBucket(aws.s3, settings.output_bucket)


@pytest.fixture
def state(aws: Clients, settings: ControllerSettings) -> Bucket:
    return Bucket(aws.s3, settings.state_bucket)


@pytest.fixture
def queue(aws: Clients, settings: ControllerSettings) -> RequestQueue:
    return RequestQueue(aws.sqs, settings.request_queue)


@pytest.fixture
def batch_queue(aws: Clients, settings: ControllerSettings) -> RequestQueue:
    """The queue of slices. The bucket of the user is there as well."""
    provision(aws.s3, aws.sqs, settings.model_copy(update={"batch_sources": (f"s3://{SOURCE}",)}))
    aws.s3.create_bucket(Bucket=SOURCE)
    return RequestQueue(aws.sqs, queue_name(settings.request_queue))


@pytest.fixture
def on_call() -> Iterator[OnCall]:
    """`on_call(client, operation, act)`: `act` gets each call's parameters, and may change them or raise."""
    yield from registering("provide-client-params", lambda act: lambda params, **_: act(params) and None)


@pytest.fixture
def on_reply() -> Iterator[OnReply]:
    """`on_reply(client, operation, act)`: `act` gets each call's reply first, and may change it."""
    yield from registering("after-call", lambda act: lambda parsed, **_: act(parsed))


def registering(event: str, adapt: Callable[[Any], Any]) -> Iterator[Any]:
    registered = []

    def register(client: Client, operation: str, act: Any) -> None:
        name, handler = f"{event}.{client.meta.service_model.service_name}.{operation}", adapt(act)
        client.meta.events.register(name, handler)
        registered.append((client, name, handler))

    yield register
    for client, name, handler in registered:
        client.meta.events.unregister(name, handler)


class S3Clock:
    ahead = 0.0
    """Seconds that S3's clock has gone on since the last write, beside the real ones."""


@pytest.fixture
def s3_clock(clients: Clients, on_reply: OnReply, monkeypatch: pytest.MonkeyPatch) -> S3Clock:
    """S3 says the date with each reply; moto in this process does not."""
    clock = S3Clock()
    monkeypatch.setattr(cloud.clock.clock, "_ahead_of_host", timedelta())

    def say_the_date(reply: dict[str, Any]) -> None:
        reply["ResponseMetadata"]["HTTPHeaders"]["date"] = formatdate(time.time() + clock.ahead, usegmt=True)

    on_reply(clients.s3, "GetObject", say_the_date)
    return clock


@pytest.fixture
def launch_all(clients: Clients, on_call: OnCall) -> None:
    """RunInstances launches up to MaxCount; moto's launches MinCount."""
    on_call(clients.ec2, "RunInstances", lambda params: params.update(MinCount=params["MaxCount"]))


@pytest.fixture
def launches(aws, on_call):
    """How many instances each RunInstances asked for."""
    asked = []
    on_call(aws.ec2, "RunInstances", lambda params: asked.append(params["MaxCount"]))
    return asked


@pytest.fixture
def counts(aws, on_reply):
    """What SQS says of the queue, one after the other; the last one stays. Empty: the truth."""
    says: list[int] = []

    def lie(reply):
        if says and "ApproximateNumberOfMessages" in reply["Attributes"]:
            visible = says.pop(0) if len(says) > 1 else says[0]
            for name in ("", "NotVisible", "Delayed"):
                reply["Attributes"][f"ApproximateNumberOfMessages{name}"] = "0" if name else str(visible)

    on_reply(aws.sqs, "GetQueueAttributes", lie)
    return says


@pytest.fixture
def hidden(aws, on_reply):
    """Ids of instances that DescribeInstances does not show yet, or "all"."""
    ids: set[str] = set()

    def hide(reply):
        for reservation in reply["Reservations"]:
            shown = [i for i in reservation["Instances"] if not ids & {i["InstanceId"], "all"}]
            reservation["Instances"] = shown

    on_reply(aws.ec2, "DescribeInstances", hide)
    return ids


@pytest.fixture
def work(queue: RequestQueue, outputs: OutputBucket) -> Callable[[], None]:
    """A worker's round: everything in the queue is a cat."""

    def round_() -> None:
        while messages := queue.receive(10, 0):
            for message in messages:
                top = [("tabby", 0.75), ("tiger cat", 0.125)]
                outputs.put_prediction(Prediction.classified(message.body, top, model="resnet18"))
            queue.delete(messages)

    return round_


@pytest.fixture
def make(
    settings: ControllerSettings, aws: Clients, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Services]]:
    """Processes of the controller, before they serve. Their polling threads have ended when the test has."""
    monkeypatch.setattr("controller.image_requests.polling.LOOK_SECONDS", 0.2)  # else each test waits
    made: list[Services] = []

    def make(**changes: Any) -> Services:
        services = assemble(settings.model_copy(update=changes), aws)
        services.polling.wake_autoscaler = lambda: None
        made.append(services)
        return services

    yield make
    for services in made:
        services.polling.request_timeout = 0
    join_threads("poll-")
    for services in made:
        services.submissions.pool.shutdown()
        services.polling.stored.pool.shutdown()


@pytest.fixture
def process(make: Callable[..., Services], work: Callable[[], None]) -> Services:
    """One of the controller, with a worker that answers as soon as it is called."""
    made = make()
    made.polling.wake_autoscaler = work
    return made


@pytest.fixture
def start(make: Callable[..., Services]) -> Callable[..., Flask]:
    """Processes of the controller."""
    return lambda **changes: create_app(make(**changes))


@pytest.fixture(scope="session")
def png() -> bytes:
    return picture("PNG")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return picture("JPEG")


@pytest.fixture
def idle(start):
    """Without workers, and with little patience."""
    app = start()
    app.extensions["services"].polling.request_timeout = 0.2
    return app.test_client()


@pytest.fixture
def photo(png):
    def photo(name="cat.png", content=png):
        return BytesIO(content), name

    return photo
