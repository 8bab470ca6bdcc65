"""The OpenAPI description of the routes of batches, by Flask endpoint."""

from typing import Any

from controller.batches.order import DURATION_PATTERN, Order
from controller.web.openapi.parts import (
    CSV,
    FORMAT,
    HTML,
    IDEMPOTENCY_KEY,
    header,
    json,
    model,
    parameter,
    refused,
    response,
)

BATCH_ID = {
    "name": "batch_id",
    "in": "path",
    "required": True,
    "description": "As the POST said it.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
BATCH_FORMAT = {
    **FORMAT,
    "description": "Overrides `Accept`, for links.",
    "schema": {"type": "string", "enum": ["json", "csv", "jsonl", "parquet"]},
}
ORDER = {"$ref": "#/components/schemas/Order"}
FIELD = {
    name: {"type": "string", "description": field.description} for name, field in Order.model_fields.items()
}
FORM = {
    "type": "object",
    "properties": {
        **FIELD,
        "source": {**FIELD["source"], "pattern": "^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"},
        "name": {**FIELD["name"], "maxLength": 200},
        "limit": {**FIELD["limit"], "pattern": "^([1-9][0-9]{0,7}|100000000)$"},
        "top_k": {**FIELD["top_k"], "pattern": "^([1-9]|1[0-9]|20)$"},
        "deadline": {**FIELD["deadline"], "pattern": DURATION_PATTERN},
        "budget": {**FIELD["budget"], "pattern": r"^\$?[1-9][0-9]{0,5}$"},
        "requester_pays": {**FIELD["requester_pays"], "enum": ["true", "false"]},
        "spot": {**FIELD["spot"], "enum": ["true", "false"]},
    },
    "required": ["source"],
    "additionalProperties": False,
}
ANSWER = model("BatchAnswer")
LINES = {"application/jsonl": {"schema": {"type": "string"}}, "application/x-ndjson": {"schema": {}}}
PARQUET = {"application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}}}
PICTURE = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
LISTED = {
    "type": "object",
    "properties": {
        "batches": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "batch_id": {"type": "string"},
                    "url": {"type": "string"},
                    "name": {"type": "string"},
                    "source": {"type": "string"},
                    "created_at": {"type": "string", "format": "date-time"},
                    "open": {"type": "boolean"},
                },
            },
        }
    },
    "required": ["batches"],
}
EVENT = {
    "type": "object",
    "description": "One event of the stream; its data is a BatchAnswer.",
    "properties": {
        "event": {"type": "string", "enum": ["progress", "complete"]},
        "data": {"type": "string"},
    },
    "required": ["event", "data"],
}
LATER = {"Location": header("Where the batch is.")}
PAGE = response("The same for a form in a browser.", headers={"Location": header("The page of the batch.")})

BATCHES: dict[str, dict[str, Any]] = {
    "batches.ask": {
        "tags": ["Batches"],
        "summary": "Classify images where they lie in S3",
        "description": "All objects under a source whose keys end as those of images do. It must be under"
        " one of BATCH_SOURCES. The fields may also come as a form.",
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": ORDER,
                    "example": {"source": "s3://lab-photos/2026/", "name": "Field trip", "budget": 2},
                },
                "application/x-www-form-urlencoded": {"schema": FORM},
            },
        },
        "responses": {
            "202": response("It is begun.", ANSWER, headers=LATER),
            "303": PAGE,
            **refused(400, 404, 422, 429, 503),
        },
    },
    "batches.list_batches": {
        "tags": ["Batches"],
        "summary": "Your newest batches",
        "parameters": [FORMAT],
        "responses": {
            "200": response("The last one first, at most 100.", json(LISTED), HTML),
            **refused(400, 404, 503),
        },
    },
    "batches.show_batch": {
        "tags": ["Batches"],
        "summary": "How far a batch is, or its rows",
        "description": "As JSON, how far it is. As CSV, JSON lines or Parquet, a row for each image that is"
        " listed so far, in the order of the keys.",
        "parameters": [BATCH_ID, BATCH_FORMAT],
        "responses": {
            "200": response("What there is by now.", ANSWER, HTML, CSV, LINES, PARQUET),
            **refused(400, 404, 406, 503),
        },
    },
    "batches.cancel_batch": {
        "tags": ["Batches"],
        "summary": "Stop a batch",
        "description": "What is answered stays; the other images are answered `failed` with the code"
        " `cancelled`.",
        "parameters": [BATCH_ID],
        "responses": {
            "200": response("It was cancelled before.", ANSWER),
            "202": response("It stops.", ANSWER, headers=LATER),
            "303": PAGE,
            **refused(404, 409, 503),
        },
    },
    "batches.retry_batch": {
        "tags": ["Batches"],
        "summary": "Try again what failed",
        "description": "Those images whose failures may pass, once the batch has finished.",
        "parameters": [BATCH_ID],
        "responses": {
            "202": response("They wait.", ANSWER, headers=LATER),
            "303": PAGE,
            **refused(404, 409, 429, 503),
        },
    },
    "batches.stream_batch": {
        "tags": ["Batches"],
        "summary": "How far a batch is, as it changes",
        "description": "Server-sent events: `progress` at the start and at each change, and `complete` at the"
        " end.",
        "parameters": [BATCH_ID],
        "responses": {
            "200": response("The stream.", {"text/event-stream": {"schema": EVENT}}),
            **refused(404, 503),
        },
    },
    "batches.show_batch_image": {
        "tags": ["Batches"],
        "summary": "A picture as it lies in its bucket",
        "parameters": [BATCH_ID, {**parameter("key", "Its key.", "query"), "required": True}],
        "responses": {"200": response("The picture.", PICTURE), **refused(404, 503)},
    },
}
