"""Liveness and readiness checks for load balancers and monitoring."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel

from cloud.errors import CloudError
from controller.web.replies import as_json
from controller.web.services import services

log = logging.getLogger(__name__)

health = Blueprint("health", __name__)


class Readiness(BaseModel):
    """Whether the controller can reach everything that it depends on."""

    status: Literal["ready", "unavailable"]
    problems: dict[str, str]
    """Maps the name of each dependency that cannot be reached to the reason."""


@health.get("/healthz")
def healthz() -> Response:
    return jsonify(status="alive")


@health.get("/readyz")
def readyz() -> Response:
    """Answers 200 if every dependency can be reached, and otherwise 503 with the problems."""
    with ThreadPoolExecutor(3) as pool:
        problems = dict(pool.map(probe, services().dependencies.items()))
    failed = {name: problem for name, problem in problems.items() if problem}
    readiness = Readiness(status="unavailable" if failed else "ready", problems=failed)
    return as_json(readiness.model_dump(), 503 if failed else 200)


def probe(dependency: tuple[str, Any]) -> tuple[str, str]:
    """Returns the name of the dependency and its problem, which is "" if it can be reached."""
    name, it = dependency
    try:
        it.check()
    except CloudError as error:
        log.warning("%s", error)
        return name, error.public
    return name, ""
