"""Parameters, headers and responses that several OpenAPI operations share."""

from typing import Any

REQUEST_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "description": "As the POST said it.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
FORMAT = {
    "name": "format",
    "in": "query",
    "description": "Overrides `Accept`, for links.",
    "schema": {"type": "string", "enum": ["json"]},
}
ANSWER_FORMAT = {
    **FORMAT,
    "description": "Overrides `Accept`, for links. `csv` then begins with a byte order mark, for Excel.",
    "schema": {"type": "string", "enum": ["json", "csv"]},
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "RFC 7240. `respond-async`: 202 at once, and the answers are collected at `Location`."
    " `wait=<seconds>`: the same if they are not complete by then.",
    "schema": {"type": "string"},
    "examples": {"later": {"value": "respond-async"}, "soon": {"value": "respond-async, wait=10"}},
}
WAIT = {
    "name": "Prefer",
    "in": "header",
    "description": "RFC 7240. `wait=<seconds>`: the answers once complete, or what there is by then.",
    "schema": {"type": "string"},
    "examples": {"wait": {"value": "wait=20"}},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "However often it comes with the same key and the same files, it is one request.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "examples": {"key": {"value": "8e03978e-40d5-43dd-bc93-6894a57f9324"}},
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that came: what it names is not sent again.",
    "schema": {"type": "string"},
}
WINDOW = {
    "name": "window",
    "in": "query",
    "description": "Of how much time the history is; by itself `10m`.",
    "schema": {"type": "string", "enum": ["10m", "1h", "24h"]},
}

HTML = {"text/html": {"schema": {"type": "string"}}}
TEXT = {"text/plain": {"schema": {"type": "string"}}}
CSV = {"text/csv": {"schema": {"type": "string"}}}


def parameter(name: str, description: str, where: str = "path") -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
    }


def json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema} | ({"example": example} if example is not None else {})}


def model(name: str, example: Any = None) -> dict[str, Any]:
    return json({"$ref": f"#/components/schemas/{name}"}, example)


def response(description: str, *contents: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Returns an OpenAPI response object.

    `contents` are maps from media type to content. `more` are further fields, such as headers and links.
    """
    content = {media: said for each in contents for media, said in each.items()}
    return {"description": description, **({"content": content} if content else {}), **more}


def header(description: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}, **more}


QUOTA = {
    "RateLimit-Policy": header("How many images may be sent in how many seconds, where there is a quota."),
    "RateLimit": header("How many are left, and in how many seconds all are there again."),
}


def refusal(description: str, code: str, message: str, **headers: Any) -> dict[str, Any]:
    example = {"error": {"code": code, "message": message}}
    more = {"headers": headers} if headers else {}
    return response(description, model("Refusal", example), HTML, TEXT, **more)


REFUSALS = {
    "400": refusal(
        "The request cannot be read as it is.",
        "no_file",
        "No file came with the request. Choose one or more images.",
    ),
    "401": refusal(
        "There is no token with the request, or one that is not known.",
        "unauthorized",
        "This needs an API token.",
        **{"WWW-Authenticate": header("Says that a bearer token is needed.")},
    ),
    "403": refusal(
        "A page of another site has sent the request, or the source of the batch is not among BATCH_SOURCES.",
        "cross_site",
        "A page of another site has sent this. Send it from this site's own page, or from a program.",
    ),
    "404": refusal("There is nothing at this address.", "not_found", "There is no request '1'."),
    "406": refusal(
        "The service cannot answer in this form.",
        "not_acceptable",
        "This service cannot write Parquet, because pyarrow is not installed.",
    ),
    "409": refusal(
        "The request is not in a state for it; the message says what would be right.",
        "conflict",
        "This request is still being uploaded. Cancel it once it waits for its answers.",
        **{"Retry-After": header("Seconds, where only the time is too early.", "integer")},
    ),
    "410": refusal(
        "The request of this Idempotency-Key has expired.",
        "request_forgotten",
        "The request of this Idempotency-Key is no longer kept. Use a new key.",
    ),
    "413": refusal(
        "That is more than is possible in one request.",
        "too_many_files",
        "1,200 files are too many: at most 1,000 in one request.",
    ),
    "421": refusal(
        "The host name of the address is not among TRUSTED_HOSTS.",
        "unknown_host",
        "This is not the name of this service. Use the address you were given.",
    ),
    "422": refusal(
        "The Idempotency-Key belongs to other files.",
        "idempotency_key_reused",
        "This Idempotency-Key was used for other files. Send these with a new key.",
    ),
    "429": refusal(
        "That is more than is possible now. Nothing of it was stored.",
        "over_quota",
        "20 images are more than you may send now: of 60 in a minute 7 are left. Try again in 13 seconds.",
        **{"Retry-After": header("Seconds until it is possible.", "integer"), **QUOTA},
    ),
    "503": refusal(
        "What is behind the controller cannot be reached. Nothing is lost; try again.",
        "unavailable",
        "The service cannot do this right now: AWS says SlowDown. Please try again.",
    ),
    "507": refusal(
        "The disk has no room for the upload, of which nothing was stored, or for the table.",
        "insufficient_storage",
        "There is no room on the disk of this service at the moment. Please try again in a minute.",
        **{"Retry-After": header("Seconds until there may be room.", "integer")},
    ),
}


def refused(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}
