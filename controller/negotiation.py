"""In which form a client wants its answer. No AWS."""

from enum import Enum

from flask import Request

TYPES = ("application/json", "text/html", "text/plain")


class Form(Enum):
    JSON = "application/json"
    HTML = "text/html"
    STEM_LINES = "stem:label lines"
    BARE_LINES = "label lines"


def wanted_form(request: Request) -> Form:
    """What `?format=json` or `Accept` says. Without a preference JSON, but two clients have conventions:
    files in a field `myfile` are answered with the bare label, files in `inputFile` with `stem:label`.
    """
    if request.args.get("format") == "json":  # a link cannot say Accept
        return Form.JSON
    accept = request.accept_mimetypes
    if no_preference(request):
        if request.method == "POST" and "myfile" in request.files:
            return Form.BARE_LINES
        if request.method == "POST" and "inputFile" in request.files:
            return Form.STEM_LINES
        return Form.JSON
    best = accept.best_match(TYPES, default="application/json")
    return {"text/html": Form.HTML, "text/plain": Form.STEM_LINES}.get(best or "", Form.JSON)


def no_preference(request: Request) -> bool:
    return all(value == "*/*" for value in request.accept_mimetypes.values())


def wants_async(request: Request) -> bool:
    """`Prefer: respond-async` (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(p.split(";")[0].strip().lower() == "respond-async" for p in preferences)
