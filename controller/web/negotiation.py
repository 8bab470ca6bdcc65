"""In which form a client wants its answer. No AWS."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.request import parse_http_list

from flask import Request
from werkzeug.exceptions import BadRequest
from werkzeug.http import unquote_header_value


class Form(Enum):
    JSON = "application/json"
    HTML = "text/html"
    STEM_LINES = "stem:label lines"
    BARE_LINES = "label lines"
    CSV = "text/csv"


PAGE = {"application/json": Form.JSON, "text/html": Form.HTML, "text/plain": Form.STEM_LINES}
"""The forms that everything has, by their media types."""
ANSWER = {**PAGE, "text/csv": Form.CSV}
"""Those of a request's answers."""
LINKED = {"json": Form.JSON, "csv": Form.CSV}
"""By `?format=`, since a link cannot say `Accept`."""


def wanted_form(request: Request, types: Mapping[str, Form] = ANSWER) -> Form:
    """The accepted form of `types`; BadRequest for an unknown `?format=`. Two clients that have no preference
    have conventions: files in a field `myfile` are answered with the bare label, files in `inputFile` with
    `stem:label`.
    """
    formats = [name for name, form in LINKED.items() if form in types.values()]
    if "format" in request.args:
        if (format := request.args["format"]) not in formats:
            known = " or ".join(formats)
            raise BadRequest(
                f"The format is {format!r}, but can only be {known}. For others, send an Accept header."
            )
    elif request.method == "POST" and no_preference(request):
        if "myfile" in request.files:
            return Form.BARE_LINES
        if "inputFile" in request.files:
            return Form.STEM_LINES
    return accepted_form(request, types)


def accepted_form(request: Request, types: Mapping[str, Form] = ANSWER) -> Form:
    """What `?format=` or `Accept` says, without a look into the body; JSON without a preference."""
    if linked := LINKED.get(request.args.get("format", "")):
        return linked
    if no_preference(request):
        return Form.JSON
    return types[request.accept_mimetypes.best_match(types, default="application/json")]


def no_preference(request: Request) -> bool:
    return all(value == "*/*" for value in request.accept_mimetypes.values())


@dataclass(frozen=True)
class Preferences:
    """How long a client is ready to wait for the complete answer: its `Prefer` header."""

    respond_async: bool
    wait: float | None
    """Seconds, if it says so."""

    def patience(self, otherwise: float) -> float:
        """Seconds: what `wait` says, or none with `respond-async` alone, or `otherwise`."""
        if self.wait is not None:
            return self.wait
        return 0 if self.respond_async else otherwise

    def applied(self, *, waits: bool) -> str:
        """The value of Preference-Applied for an answer that `waits` for more, or is complete."""
        found = ["respond-async"] if self.respond_async and (waits or self.wait is None) else []
        return ", ".join(found + ([f"wait={self.wait:.0f}"] if self.wait is not None else []))


NO_PREFERENCES = Preferences(respond_async=False, wait=None)


def preferences(request: Request, longest_wait: float) -> Preferences:
    """`Prefer: respond-async, wait=<seconds>` (RFC 7240). What makes no sense is ignored, of what is given
    twice the first counts, and nobody waits longer than `longest_wait` seconds.
    """
    found: dict[str, str] = {}
    for preference in parse_http_list(",".join(request.headers.getlist("Prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), unquote_header_value(value.strip()))
    seconds = found.get("wait", "")
    valid = seconds.isascii() and seconds.isdigit()
    return Preferences("respond-async" in found, min(float(seconds), longest_wait) if valid else None)
