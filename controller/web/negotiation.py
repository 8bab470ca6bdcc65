"""Reads from an HTTP request which form of answer the client wants, and how long it is willing to wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.request import parse_http_list

from flask import Request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest
from werkzeug.http import parse_accept_header, unquote_header_value


class Form(Enum):
    JSON = "application/json"
    HTML = "text/html"
    STEM_LINES = "stem:label lines"
    BARE_LINES = "label lines"
    CSV = "text/csv"
    JSONL = "application/jsonl"
    PARQUET = "application/vnd.apache.parquet"


PAGE = {"application/json": Form.JSON, "text/html": Form.HTML, "text/plain": Form.STEM_LINES}
"""The forms that are available for every page, by media type."""
ANSWER = {**PAGE, "text/csv": Form.CSV}
"""The forms of the answer to a request, by media type."""
BATCH = {
    "application/json": Form.JSON,
    "text/html": Form.HTML,
    "text/csv": Form.CSV,
    "application/jsonl": Form.JSONL,
    "application/x-ndjson": Form.JSONL,
    "application/vnd.apache.parquet": Form.PARQUET,
}
"""The forms of a batch, by media type."""
LINKED = {"json": Form.JSON, "csv": Form.CSV, "jsonl": Form.JSONL, "parquet": Form.PARQUET}
"""The forms that `?format=` can select, because a link cannot set an Accept header."""
LONGEST_ACCEPT = 1000
"""Characters of the header, of which browsers send some 150. To parse one of 30 KB would take 0.1 s."""
MOST_ACCEPTED = 32
"""Types in the header, of which browsers send some ten. Each is compared with all that there are."""


def wanted_form(request: Request, types: Mapping[str, Form] = ANSWER) -> Form:
    """Returns the form in `types` that the client prefers. Raises BadRequest for an unknown `?format=`.

    If a POST states no preference, the name of its form field decides: `myfile` gets bare labels, `inputFile`
    gets `stem:label` lines. Two existing clients rely on this convention.
    """
    formats = [name for name, form in LINKED.items() if form in types.values()]
    if "format" in request.args:
        if (format := request.args["format"]) not in formats:
            known = " or ".join(", ".join(formats).rsplit(", ", 1))
            raise BadRequest(
                f"The format is {format!r}, but can only be {known}. For others, send an Accept header."
            )
    elif request.mimetype == "multipart/form-data" and no_preference(request):
        if "myfile" in request.files:
            return Form.BARE_LINES
        if "inputFile" in request.files:
            return Form.STEM_LINES
    return accepted_form(request, types)


def accepted_form(request: Request, types: Mapping[str, Form] = ANSWER) -> Form:
    """Returns the form that `?format=` or `Accept` asks for, JSON by default. The body is not read."""
    if linked := LINKED.get(request.args.get("format", "")):
        return linked
    if no_preference(request):
        return Form.JSON
    return types[accepted(request).best_match(types, default="application/json")]


def no_preference(request: Request) -> bool:
    return all(value == "*/*" for value in accepted(request).values())


def accepted(request: Request) -> MIMEAccept:
    """Returns what `Accept` says. One beyond LONGEST_ACCEPT or MOST_ACCEPTED counts as none.

    Blanks mean nothing there, and Werkzeug would take the square of their number.
    """
    header = "".join(request.headers.get("Accept", "").split())
    usual = len(header) <= LONGEST_ACCEPT and header.count(",") < MOST_ACCEPTED
    return parse_accept_header(header if usual else "", MIMEAccept)


@dataclass(frozen=True)
class Preferences:
    """How long a client is willing to wait for the complete answer, from its `Prefer` header."""

    respond_async: bool
    wait: float | None
    """The longest wait in seconds, or None if the header does not set one."""

    def patience(self, otherwise: float) -> float:
        """Returns the longest wait in seconds: `wait` if set, 0 for `respond-async`, else `otherwise`."""
        if self.wait is not None:
            return self.wait
        return 0 if self.respond_async else otherwise

    def applied(self, *, waits: bool) -> str:
        """Returns the value of Preference-Applied. `waits` says whether the answer is incomplete."""
        found = ["respond-async"] if self.respond_async and (waits or self.wait is None) else []
        return ", ".join(found + ([f"wait={self.wait:.0f}"] if self.wait is not None else []))


NO_PREFERENCES = Preferences(respond_async=False, wait=None)


def preferences(request: Request, longest_wait: float) -> Preferences:
    """Parses `Prefer: respond-async, wait=<seconds>` (RFC 7240).

    Invalid preferences are ignored. If a preference is repeated, the first one counts. `wait` is limited to
    `longest_wait` seconds.
    """
    found: dict[str, str] = {}
    for preference in parse_http_list(",".join(request.headers.getlist("Prefer"))):
        name, _, value = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), unquote_header_value(value.strip()))
    seconds = found.get("wait", "")
    valid = seconds.isascii() and seconds.isdigit()
    return Preferences("respond-async" in found, min(float(seconds), longest_wait) if valid else None)
