"""Liveness and readiness checks for load balancers and monitoring."""

from typing import Literal

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel

from controller.web.replies import as_json
from controller.web.services import services

health = Blueprint("health", __name__)


class Readiness(BaseModel):
    """Whether the controller can reach everything that it depends on."""

    status: Literal["ready", "unavailable"]
    problems: dict[str, str]
    """Maps the name of each dependency that cannot be reached to the reason."""


@health.get("/healthz")
def healthz() -> Response:
    return jsonify(status="alive")


@health.get("/admission")
def admit() -> Response:
    """Answers 200 to whoever may send uploads. Others are refused before this, without a call of AWS.

    nginx asks this before it takes the body of an upload.
    """
    return jsonify(status="admitted")


@health.get("/readyz")
def readyz() -> Response:
    """Answers 200 if every dependency can be reached, and otherwise 503 with the problems."""
    problems = services().dependencies.problems()
    readiness = Readiness(status="unavailable" if problems else "ready", problems=problems)
    return as_json(readiness.model_dump(), 503 if problems else 200)
