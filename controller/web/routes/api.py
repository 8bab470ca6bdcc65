"""Serves the OpenAPI document, and a page on which people can try its operations."""

from typing import Any

from flask import Blueprint, Response, current_app, render_template

from controller.web.openapi.document import document
from controller.web.replies import as_json
from controller.web.services import services

api = Blueprint("api", __name__)


@api.get("/openapi.json")
def show_document() -> Response:
    return as_json(this_app(), 200)


@api.get("/api")
def show_page() -> str:
    return render_template("api.html", document=this_app(), restricted=services().tokens.restricted)


def this_app() -> dict[str, Any]:
    """Returns the document, which is made when somebody first asks for it."""
    known = current_app.extensions
    if "openapi" not in known:
        known["openapi"] = document(current_app, services().tokens.restricted)
    found: dict[str, Any] = known["openapi"]
    return found
