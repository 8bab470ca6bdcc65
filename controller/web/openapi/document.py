import re
from typing import Any

from flask import Flask
from pydantic.json_schema import models_json_schema

from controller.batches.answer import BatchAnswer
from controller.batches.order import Order
from controller.dashboard.fleet_view import FleetAnswer
from controller.web.answers import RequestAnswer
from controller.web.cross_site import PROBES
from controller.web.openapi.operations import OPERATIONS
from controller.web.openapi.parts import REFUSALS, refused
from controller.web.replies import Refusal
from controller.web.routes.health import Readiness
from controller.web.token_guard import COOKIE, OPEN

MODELS = (RequestAnswer, BatchAnswer, FleetAnswer, Readiness, Refusal)
ABOUT = """\
Send photos, get back what is in them. Answers are JSON; `Accept: text/plain` gives a line for each image,
`text/csv` a table, and `text/html` the page that a browser shows. Refusals are JSON, text or a page as well.
"""


def document(app: Flask, restricted: bool) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of the app. Raises KeyError for a route that OPERATIONS lacks."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            if method not in ("HEAD", "OPTIONS"):  # Flask answers these itself
                described = operation(rule.endpoint, restricted)
                paths.setdefault(path(rule.rule), {})[method.lower()] = described
    schemas = models_json_schema(
        [*((model, "serialization") for model in MODELS), (Order, "validation")],
        ref_template="#/components/schemas/{model}",
    )[1]["$defs"]
    components: dict[str, Any] = {"schemas": schemas, "responses": REFUSALS}
    if restricted:
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "One of API_TOKENS."},
            "signedIn": {
                "type": "apiKey",
                "in": "cookie",
                "name": COOKIE,
                "description": "What a browser has once somebody has signed in.",
            },
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Elastic image classifier", "version": "1", "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": components,
    }


def path(rule: str) -> str:
    """Converts a Flask rule such as `/requests/<request_id>` to an OpenAPI path, `/requests/{request_id}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def operation(endpoint: str, restricted: bool) -> dict[str, Any]:
    described = {"operationId": endpoint.replace(".", "_"), **OPERATIONS[endpoint]}
    guarded = restricted and endpoint not in OPEN
    statuses = {401: guarded, 403: endpoint != "static", 421: endpoint not in PROBES}
    refusals = refused(*(status for status, possible in statuses.items() if possible))
    described["responses"] = {**described["responses"], **refusals}
    if guarded:
        described["security"] = [{"token": []}, {"signedIn": []}]
    return described
