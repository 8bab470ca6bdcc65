"""In which form a client wants its answer. No AWS."""

from enum import Enum

from flask import Request
from werkzeug.exceptions import BadRequest

TYPES = ("application/json", "text/html", "text/plain")


class Form(Enum):
    JSON = "application/json"
    HTML = "text/html"
    STEM_LINES = "stem:label lines"
    BARE_LINES = "label lines"


def wanted_form(request: Request) -> Form:
    """The accepted form; BadRequest for an unknown `?format=`. Two clients that have no preference have
    conventions: files in a field `myfile` are answered with the bare label, files in `inputFile` with
    `stem:label`.
    """
    if (format := request.args.get("format", "json")) != "json":
        raise BadRequest(
            f"The format is {format!r}, but can only be json. For others, send an Accept header."
        )
    if request.method == "POST" and no_preference(request) and "format" not in request.args:
        if "myfile" in request.files:
            return Form.BARE_LINES
        if "inputFile" in request.files:
            return Form.STEM_LINES
    return accepted_form(request)


def accepted_form(request: Request) -> Form:
    """What `?format=json` or `Accept` says, without a look into the body; JSON without a preference."""
    if request.args.get("format") == "json" or no_preference(request):  # a link cannot say Accept
        return Form.JSON
    best = request.accept_mimetypes.best_match(TYPES, default="application/json")
    return {"text/html": Form.HTML, "text/plain": Form.STEM_LINES}.get(best or "", Form.JSON)


def no_preference(request: Request) -> bool:
    return all(value == "*/*" for value in request.accept_mimetypes.values())


def wants_async(request: Request) -> bool:
    """`Prefer: respond-async` (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(p.split(";")[0].strip().lower() == "respond-async" for p in preferences)
