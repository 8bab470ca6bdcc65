"""Serves S3, SQS and EC2 on 127.0.0.1. This is moto's server, corrected where it differs from AWS.

The SQS of moto counts the whole queue for each message, and loses messages when several threads use it. Both
are corrected here. `local.ec2` corrects EC2, and `local.s3` corrects S3. moto keeps its state in global
variables, so a process can have only one endpoint at a time.

`local.access` decides who may call the endpoint. In addition to the API of AWS, it has control requests. They
need basic authentication with the access key:

* ``GET /_local/record`` returns what `Endpoint.record` returns, as JSON.
* ``POST /_local/capacity`` with JSON ``{"instance_type": "t3.small", "market": "spot", "available": 1}``
  limits how many more instances of a type can be launched in a market. Beyond that, EC2 answers
  InsufficientInstanceCapacity. The market is "spot", "on-demand", or null for both. `"available": null` lifts
  the limit.
* ``POST /_local/delay`` with JSON ``{"operation": "CreateTags", "seconds": 3}`` delays each call of an
  operation. 0 seconds end this.

The metadata service of an instance is at ``/_local/instances/<instance-id>/<secret>/…``: see
`local.metadata`.
"""

import functools
import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import flask
import moto.moto_server.werkzeug_app
import moto.sqs.models
import moto.sqs.urls
from moto.core.request import Request
from moto.core.utils import camelcase_to_underscores
from moto.ec2.models import EC2Backend, ec2_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.exceptions import ReceiptHandleIsInvalid
from moto.sqs.models import Message, Queue, SQSBackend, sqs_backends
from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.test import Client
from werkzeug.wrappers import Response

from local import budgets, s3, s3_direct
from local.access import AccessKey, refusal
from local.calls import Calls
from local.ec2 import LocalEC2
from local.instances import MARKETS, Instances
from local.metadata import Metadata
from local.server import CLIENT, Server, has_gone


def _locked(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the operation of a queue so that it holds the lock of the queue."""

    @functools.wraps(operation)
    def call(self: SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
        with self.get_queue(queue_name)._messages_lock:
            return operation(self, queue_name, *args, **kwargs)

    return call


class LocalQueue(Queue):
    """A queue that reads the clock once to count its messages. moto does so twice for each message."""

    @property
    def messages(self) -> list[Message]:
        now = time.time() * 1000
        return [m for m in self._messages if m.visible_at < now and m.delayed_until <= now]

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        now = time.time() * 1000
        return sum(m.delayed_until > now for m in self._messages)

    @property
    def approximate_number_of_messages_not_visible(self) -> int:
        now = time.time() * 1000
        return sum(m.visible_at >= now for m in self._messages)

    @property
    def pending_message_groups(self) -> set[str]:
        return super().pending_message_groups if self.fifo_queue else set()

    def delete_message(self, receipt_handle: str) -> None:
        """Deletes a message. moto compares the handle with those of the whole queue twice."""
        if receipt_handle in self.deleted_messages:
            return
        for position, message in enumerate(self._messages):
            if message.had_receipt_handle(receipt_handle):
                self.pending_messages.discard(message)
                self.deleted_messages.update(message.all_receipt_handles)  # type: ignore[arg-type]
                del self._messages[position]
                return
        raise ReceiptHandleIsInvalid()

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes, with the redrive policy without spaces, as SQS has it.

        Otherwise Terraform would report a change.
        """
        found: dict[str, Any] = super().attributes
        if self.redrive_policy:
            found["RedrivePolicy"] = json.dumps(self.redrive_policy, separators=(",", ":"))
        return found


class LocalSQS(SQSBackend):
    """Handles one operation per queue at a time. A long poll releases the lock while it waits."""

    serving = True
    _url_module = moto.sqs.urls  # moto would look for it in the module of this class
    send_message = _locked(SQSBackend.send_message)
    send_message_batch = _locked(SQSBackend.send_message_batch)
    delete_message = _locked(SQSBackend.delete_message)
    purge_queue = _locked(SQSBackend.purge_queue)

    def get_queue_attributes(self, queue_name: str, attribute_names: list[str]) -> dict[str, Any]:
        """Returns the attributes. moto would count the messages anew for each name."""
        asked = ["All", *attribute_names] if attribute_names else []
        with self.get_queue(queue_name)._messages_lock:
            found = super().get_queue_attributes(queue_name, asked)
        return {name: value for name, value in found.items() if {"All", name} & set(attribute_names)}

    @classmethod
    def end_long_polls(cls) -> None:
        """Lets all that wait for messages answer at once that there are none."""
        cls.serving = False
        for account in sqs_backends.values():
            for backend in account.values():
                for queue in backend.queues.values():
                    with queue._messages_lock:
                        queue._messages_lock.notify_all()

    def receive_message(
        self, queue_name: str, count: int, wait_seconds_timeout: int, *args: Any, **kwargs: Any
    ) -> list[Message]:
        queue = self.get_queue(queue_name)
        end = time.monotonic() + wait_seconds_timeout
        with queue._messages_lock:
            while self.serving and not _client_has_gone():
                messages = super().receive_message(queue_name, count, 0, *args, **kwargs)
                left = end - time.monotonic()
                if messages or left <= 0:
                    return messages
                queue._messages_lock.wait(min(left, _seconds_to_next_due(queue)))
        return []

    def change_message_visibility(
        self, queue_name: str, receipt_handle: str, visibility_timeout: int
    ) -> None:
        arrival = self.get_queue(queue_name)._messages_lock
        with arrival:
            super().change_message_visibility(queue_name, receipt_handle, visibility_timeout)
            arrival.notify_all()

    def is_message_valid_based_on_retention_period(self, queue_name: str, message: Message) -> bool:
        """Returns whether the message is not too old. The method of moto counts the whole queue each time."""
        seconds: int = self.get_queue(queue_name).message_retention_period  # type: ignore[attr-defined]
        return time.time() < (message.sent_timestamp or 0) / 1000 + seconds


def _seconds_to_next_due(queue: Queue) -> float:
    """Returns the seconds until the next message becomes visible, at least 0.01."""
    due = min((max(message.visible_at, message.delayed_until) for message in queue._messages), default=1e15)
    return max(0.01, due / 1000 - time.time())


def _client_has_gone() -> bool:
    """Returns whether the client of the long poll has disconnected.

    A message for it would be in flight although nobody has it.
    """
    client = flask.request.environ.get(CLIENT) if flask.has_request_context() else None
    return client is not None and has_gone(client)


def _use_backends(sqs: type[SQSBackend], ec2: type[EC2Backend]) -> None:
    """Makes moto use these classes, also for accounts that already have a backend in this process."""
    for backends, backend in ((sqs_backends, sqs), (ec2_backends, ec2)):
        backends.backend = backend
        backends.clear()


class Endpoint:
    """A local AWS, which serves requests between `start` and `stop`.

    If `port` is 0, it uses a free port. Raises OSError at once if the port is taken.
    """

    def __init__(self, port: int = 0, region: str = "us-east-1", key: AccessKey | None = None) -> None:
        self.instances = Instances()
        self.region = region
        self.key = key or AccessKey.new()
        """The access key with which the user of this endpoint signs calls."""
        self._metadata = Metadata(self.instances, self.key)
        self._moto = DomainDispatcherApplication(create_backend_app)
        # Without the cache, moto would read a folder for each request.
        find = functools.cache(self._moto.get_backend_for_host)
        self._moto.get_backend_for_host = find  # type: ignore[method-assign]
        self._calls = Calls()
        self._delays: dict[str, float] = {}
        self._server = Server(port, self._app)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve, name="local-aws", daemon=True)

    def start(self) -> None:
        """Replaces parts of moto and starts to serve.

        The first EC2 call takes more than a second, so one is made here.
        """
        LocalEC2.instances = self.instances
        LocalSQS.serving = True
        moto.sqs.models.Queue = LocalQueue  # type: ignore[misc]
        moto.moto_server.werkzeug_app.DISABLE_GLOBAL_CORS = True
        moto.sqs.models.camelcase_to_underscores = functools.cache(camelcase_to_underscores)
        _use_backends(LocalSQS, LocalEC2)
        budgets.complete_moto()
        s3.mend_moto()
        self.reset()
        signed = f"AWS4-HMAC-SHA256 Credential=local/20000101/{self.region}/ec2/aws4_request, "
        form = {"Action": "DescribeInstances", "Version": "2016-11-15"}
        Client(self._moto).post("/", data=form, headers={"Authorization": signed})
        self._thread.start()

    def metadata_url(self, instance_id: str) -> str:
        """Returns the URL of the instance's metadata service, for AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return self.url + self.key.metadata_path(instance_id)

    def stop(self) -> None:
        LocalSQS.end_long_polls()
        self._server.stop()
        self._thread.join()
        _use_backends(SQSBackend, EC2Backend)
        self.reset()

    def reset(self) -> None:
        """Deletes all buckets, queues, instances and the record, and lifts all limits and delays."""
        moto_api_backend.reset()
        self.instances.clear()
        self._metadata.clear()
        self._calls.clear()
        self._delays.clear()

    def record(self) -> dict[str, Any]:
        """Returns the calls and the instances since the start or the last reset.

        The form is ``{"calls": {service: {operation: count}}, "instances": [Life], …}``, with the largest
        number of instances that ran at the same time as ``"most_instances_at_once"``.
        """
        return {"calls": self._calls.record(), **self.instances.record()}

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if refused := refusal(environ, self._server.port, self.key, self._metadata.issued):
            return refused(environ, start_response)
        if environ["PATH_INFO"].startswith("/_local/"):  # the name of a bucket cannot begin with _
            try:
                return self._control(Request(environ))(environ, start_response)
            except HTTPException as error:
                return error(environ, start_response)
        direct = s3_direct.direct_operation(environ)
        operation = self._calls.count(environ, direct)
        if operation in self._delays:
            threading.Event().wait(self._delays[operation])
        answer = s3_direct.answer(operation, environ) if direct else None
        return (answer or self._moto)(environ, start_response)

    def _control(self, request: Request) -> Response:
        match request.method, *request.path.split("/", 5)[2:]:
            case "GET", "record":
                return Response(json.dumps(self.record()), mimetype="application/json")
            case "POST", "delay":
                asked = request.get_json(force=True)
                self._delays[str(asked["operation"])] = float(asked["seconds"])
                return Response(status=204)
            case "POST", "capacity":
                asked = request.get_json(force=True)
                if not asked.keys() >= {"instance_type", "available"} or asked.get("market") not in MARKETS:
                    raise BadRequest(
                        "The JSON must have instance_type and available. The market is spot or on-demand, or"
                        " null for both."
                    )
                self.instances.limit(asked["instance_type"], asked.get("market"), asked["available"])
                return Response(status=204)
            case _, "instances", instance_id, secret, path:
                return self._metadata.answer(request, instance_id, secret, path)
        raise NotFound("There is no such control request. The head of local/endpoint.py lists them.")
