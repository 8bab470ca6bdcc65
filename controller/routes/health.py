from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Blueprint, Response, jsonify

from cloud.errors import CloudError
from controller.replies import services

health = Blueprint("health", __name__)


@health.get("/healthz")
def healthz() -> Response:
    return jsonify(status="alive")


@health.get("/readyz")
def readyz() -> tuple[Response, int]:
    """503 naming what cannot be reached."""
    with ThreadPoolExecutor(3) as pool:
        problems = dict(pool.map(probe, services().dependencies.items()))
    failed = {name: problem for name, problem in problems.items() if problem}
    return jsonify(status="unavailable" if failed else "ready", problems=failed), 503 if failed else 200


def probe(dependency: tuple[str, Any]) -> tuple[str, str]:
    name, it = dependency
    try:
        it.check()
    except CloudError as error:
        return name, str(error)
    return name, ""
