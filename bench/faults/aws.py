"""Runs the system as `make run` does, on a local AWS whose calls can be made to go wrong.

Nothing in the system knows of this. In addition to its own control requests, the local AWS has:

* ``POST /_local/faults`` with the fields of a `Rule` as JSON puts the rule in force.
* ``DELETE /_local/faults`` ends all rules.
* ``GET /_local/faults`` returns what was hit so far, as a list of `Hit`.
* ``GET /_local/faults/calls`` returns the calls of both tiers so far, as lists of tier, service, operation,
  place and their number.

The file that SKEW_FILE names has the seconds by which the clocks of newly started processes are ahead, for
each tier: see skewed_clock/sitecustomize.py.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import parse_qs

import psutil
from moto.core.request import Request
from werkzeug.wrappers import Response

import local.__main__ as make_run
from bench.faults.callers import caller_of
from bench.faults.rules import Action, Call, Rule, Rules
from local import s3_direct
from local.access import AccessKey, signed_with
from local.calls import service_and_operation
from local.driver import OBSERVER
from local.endpoint import Endpoint
from local.server import CLIENT

SKEWED_CLOCK = Path(__file__).parent / "skewed_clock"
FOLDER = re.compile("fleet/[a-z]+|[a-z-]+/")  # of the state bucket; image-ids begin with a hexadecimal number
HOLDER = b'"holder":"'


class FaultyEndpoint(Endpoint):
    """A local AWS with rules by which calls go wrong."""

    def __init__(self, port: int = 0, region: str = "us-east-1", key: AccessKey | None = None) -> None:
        self.rules = Rules()
        super().__init__(port, region, key)

    def _control(self, request: Request) -> Response:
        if request.path == "/_local/faults/calls":
            found = [(*call, number) for call, number in sorted(self.rules.calls.items())]
            return Response(json.dumps(found), mimetype="application/json")
        if request.path != "/_local/faults":
            return super()._control(request)
        if request.method == "POST":
            self.rules.add(request.get_json(force=True))
            return Response(status=204)
        if request.method == "DELETE":
            self.rules.lift()
            return Response(status=204)
        return Response(json.dumps([asdict(hit) for hit in self.rules.hit]), mimetype="application/json")

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        observes = OBSERVER in environ.get("HTTP_USER_AGENT", "")
        if observes or environ["PATH_INFO"].startswith("/_local/"):
            return super()._app(environ, start_response)
        call = call_of(environ)
        self.rules.record(call)
        rule = self.rules.drawn_for(call) if self.rules.in_force else None
        if rule is None:
            return super()._app(environ, start_response)
        return self._go_wrong(rule, call, environ, start_response)

    def _go_wrong(
        self, rule: Rule, call: Call, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:
        client: socket.socket = environ[CLIENT]
        caller = caller_of(client) if "kill" in rule.action.value or "pause" in rule.action.value else None
        match rule.action:
            case Action.REFUSE:
                self.rules.note(rule, call)
                return refusal(call.service, rule)(environ, start_response)
            case Action.EMPTY:
                self.rules.note(rule, call)
                return Response("{}", mimetype="application/x-amz-json-1.0")(environ, start_response)
            case Action.DELAY:
                self.rules.note(rule, call)
                time.sleep(rule.seconds)
                return super()._app(environ, start_response)
            case Action.LOSE:
                self.rules.note(rule, call)
                return cut(super()._app(environ, start_response), client)
            case Action.CUT_BODY:
                self.rules.note(rule, call)
                return cut_in_the_middle(super()._app(environ, start_response), client)
            case Action.TWICE:
                self.rules.note(rule, call)
                return self._twice(environ, start_response)
        if caller is None:  # a call of the bench itself
            return super()._app(environ, start_response)
        self.rules.note(rule, call)
        if rule.action is Action.KILL_BEFORE:
            kill(caller)
            start_response("500 Internal Server Error", [])
            return cut([], client)
        carried_out = list(super()._app(environ, start_response))
        if rule.action is Action.KILL_AFTER:
            kill(caller)
            return cut(carried_out, client)
        pause(caller, rule.seconds)
        return carried_out

    def _twice(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        for _ in super()._app({**environ, "wsgi.input": BytesIO(body)}, lambda *_: None):
            pass
        return super()._app({**environ, "wsgi.input": BytesIO(body)}, start_response)


def call_of(environ: dict[str, Any]) -> Call:
    """Returns what the request calls. Its body can still be read afterwards."""
    direct = s3_direct.direct_operation(environ)
    service, operation = ("s3", direct) if direct else service_and_operation(environ)
    body = b""
    if service == "sqs" or environ["PATH_INFO"].endswith("fleet/state"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
    tier = "worker" if signed_with(environ)[0].startswith("ASIA") else "controller"
    return Call(service, operation, tier, environ["PATH_INFO"], body, place_of(service, environ, body))


def place_of(service: str, environ: dict[str, Any], body: bytes) -> str:
    """Returns what is called, as `Call.place` has it.

    To write the fleet's state with a holder of the lease is another place than to write it without one.
    """
    if service == "sqs":
        asked = json.loads(body or b"{}")
        return str(asked.get("QueueUrl") or asked.get("QueueName", "")).rpartition("/")[2]
    if service != "s3":
        return ""
    bucket, _, key = environ["PATH_INFO"].removeprefix("/").partition("/")
    key = key or parse_qs(environ["QUERY_STRING"]).get("prefix", [""])[0]
    folder = FOLDER.match(key)
    held = " held" if HOLDER in body else ""
    return f"{bucket}/{folder[0]}{held}" if folder else bucket


def refusal(service: str, rule: Rule) -> Response:
    """Returns an error in the format of the service."""
    message = "A fault that was drawn."
    if service == "sqs":
        body = json.dumps({"__type": f"com.amazonaws.sqs#{rule.code}", "message": message})
        return Response(body, rule.status, mimetype="application/x-amz-json-1.0")
    error = f"<Error><Code>{rule.code}</Code><Message>{message}</Message></Error>"
    text = error if service == "s3" else f"<Response><Errors>{error}</Errors></Response>"
    return Response(text, rule.status, mimetype="text/xml")


def cut(reply: Iterable[bytes], client: socket.socket) -> Iterable[bytes]:
    """Lets the call be carried out, and cuts the connection in place of a reply."""
    for _ in reply:
        pass
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    return [b""]


def cut_in_the_middle(reply: Iterable[bytes], client: socket.socket) -> Iterable[bytes]:
    """Sends the headers and half of the body, and cuts the connection."""
    body = b"".join(reply)
    yield body[: len(body) // 2]
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def pause(process: psutil.Process, seconds: float) -> None:
    def resume() -> None:
        with suppress(psutil.NoSuchProcess):
            process.resume()

    with suppress(psutil.NoSuchProcess):
        process.suspend()
        Timer(seconds, resume).start()


instance_environment = make_run.instance_environment


def skewed_environment(settings: Any) -> dict[str, str]:
    """Returns the environment of the local instances, with the clock of this package."""
    skew = {name: os.environ[name] for name in ("PYTHONPATH", "SKEW_FILE")}
    return {**instance_environment(settings), **skew}


if __name__ == "__main__":
    make_run.Endpoint = FaultyEndpoint  # type: ignore[misc]
    make_run.instance_environment = skewed_environment
    sys.exit(make_run.main())
