"""The OpenAPI description of each route, by its Flask endpoint."""

from typing import Any

from controller.web.openapi.batches import BATCHES
from controller.web.openapi.parts import (
    ANSWER_FORMAT,
    CSV,
    FORMAT,
    HTML,
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    PREFER,
    QUOTA,
    REQUEST_ID,
    TEXT,
    WAIT,
    WINDOW,
    header,
    json,
    model,
    parameter,
    refused,
    response,
)

ANSWER = {
    "request_id": "6743b2f09a1c5be07d3f42a8c6e1",
    "images": [
        {
            "image_id": "6743b2f09a1c5be07d3f42a8c6e1/0000-cat.jpg",
            "filename": "cat.jpg",
            "status": "classified",
            "label": "tabby",
            "confidence": 0.62,
            "predictions": [
                {"label": "tabby", "confidence": 0.62},
                {"label": "tiger cat", "confidence": 0.21},
            ],
            "error": None,
            "model": "resnet18 (imagenet)",
            "engine": "openvino",
            "precision": "int8",
            "timings": {"fetch": 0.02, "decode": 0.01, "classify": 0.05},
            "instance_id": "i-0123456789abcdef0",
            "cached": False,
            "answered_at": "2026-11-24T08:43:21Z",
            "preview": None,
        }
    ],
    "wait": None,
    "complete": True,
    "counts": {"waiting": 0, "classified": 1, "failed": 0},
    "url": "/requests/6743b2f09a1c5be07d3f42a8c6e1",
}
ANSWERS = (model("RequestAnswer", ANSWER), HTML, TEXT, CSV)
LATER = {
    "headers": {"Location": header("Where the answers are collected.")},
    "links": {
        "collect": {
            "operationId": "requests_show_request",
            "parameters": {"request_id": "$response.body#/request_id"},
        }
    },
}
EVENT = {
    "type": "object",
    "description": "One event of the stream; its data is JSON.",
    "properties": {
        "event": {"type": "string", "enum": ["state", "image"]},
        "id": {"type": "string"},
        "data": {"type": "string"},
    },
    "required": ["event", "id", "data"],
}
SIGN_IN_FORM = {
    "type": "object",
    "properties": {
        "token": {"type": "string"},
        "next": {"type": "string", "description": "A path."},
    },
    "required": ["token"],
}
LEADS_ON = {"Location": header("The page to go on with.")}

CLASSIFIED = {
    "200": response("All images are answered.", *ANSWERS, headers=QUOTA, links=LATER["links"]),
    "202": response("Not yet.", *ANSWERS, headers=LATER["headers"] | QUOTA, links=LATER["links"]),
    **refused(400, 409, 410, 413, 422, 429, 503, 507),
}
FILE = {"schema": {"type": "string", "format": "binary"}}
BODY = {"required": True, "content": {"image/*": FILE}}

OPERATIONS: dict[str, dict[str, Any]] = {
    "upload.classify": {
        "tags": ["Images"],
        "summary": "Classify images",
        "description": "Answers when all images are classified, or after the server's REQUEST_TIMEOUT (five"
        " minutes, unless it was changed) with what there is. A file that is no image gets a `failed` of its"
        " own. Without an `Accept`, files in a field `myfile` are answered with bare labels, and files in"
        " `inputFile` with `stem:label` lines.",
        "parameters": [PREFER, IDEMPOTENCY_KEY, ANSWER_FORMAT],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "description": "One part for each image; the names of the fields do not matter.",
                        "properties": {
                            "image_file": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                        "required": ["image_file"],
                    }
                },
                "image/*": FILE,
            },
        },
        "responses": CLASSIFIED,
    },
    "upload.classify_body": {
        "tags": ["Pages"],
        "summary": "Classify one image, which is the body",
        "description": "`Content-Disposition` may name the file.",
        "parameters": [PREFER, IDEMPOTENCY_KEY, ANSWER_FORMAT],
        "requestBody": BODY,
        "responses": CLASSIFIED,
    },
    "upload.classify_file": {
        "tags": ["Images"],
        "summary": "Classify one image, which is the body",
        "description": "`curl -T` appends the name of the file to an address that ends with `/`. A `POST` to"
        " `/` takes such a body as well; `Content-Disposition` may then name the file.",
        "parameters": [
            parameter("filename", "The name of the file."),
            PREFER,
            IDEMPOTENCY_KEY,
            ANSWER_FORMAT,
        ],
        "requestBody": BODY,
        "responses": CLASSIFIED | refused(404),
    },
    "requests.show_request": {
        "tags": ["Images"],
        "summary": "The answers of a request",
        "description": "What there is by now; `complete` says whether that is all.",
        "parameters": [REQUEST_ID, WAIT, ANSWER_FORMAT],
        "responses": {"200": response("The answers.", *ANSWERS), **refused(400, 404, 503)},
    },
    "requests.delete_request": {
        "tags": ["Images"],
        "summary": "Delete a request with its pictures and answers",
        "description": "Once all of it is answered; however often it is sent. After a cancellation it is"
        " refused until no worker can have one of the images any more.",
        "parameters": [REQUEST_ID],
        "responses": {"204": response("Nothing of it is stored."), **refused(404, 409, 503)},
    },
    "requests.cancel_request": {
        "tags": ["Images"],
        "summary": "Cancel what still waits",
        "description": "What has no answer is answered `failed` with the code `cancelled`, and its pictures"
        " are deleted. What is answered stays. Messages that remain in a busy queue do no harm: workers drop"
        " them, since the images are gone.",
        "parameters": [REQUEST_ID, ANSWER_FORMAT],
        "responses": {
            "200": response("The answers.", *ANSWERS),
            "303": response("The same for a form in a browser.", headers=LEADS_ON),
            **refused(400, 404, 409, 503),
        },
    },
    "requests.retry_request": {
        "tags": ["Images"],
        "summary": "Send again what failed",
        "description": "Those images whose pictures are still stored, once all of the request is answered.",
        "parameters": [REQUEST_ID, ANSWER_FORMAT],
        "responses": {
            "200": response("All is answered, by somebody who was faster.", *ANSWERS),
            "202": response("They wait.", *ANSWERS, **LATER),
            "303": response("The same for a form in a browser.", headers=LEADS_ON),
            **refused(400, 404, 409, 429, 503),
        },
    },
    "requests.show_image": {
        "tags": ["Images"],
        "summary": "A picture as it was uploaded",
        "parameters": [REQUEST_ID, parameter("name", "`<number>-<file name>`, the end of its image-id.")],
        "responses": {
            "200": response("The picture.", {"*/*": {"schema": {"type": "string", "format": "binary"}}}),
            **refused(404, 503),
        },
    },
    "requests.show_preview": {
        "tags": ["Images"],
        "summary": "A preview of a HEIC or TIFF picture",
        "description": "What the model saw of a picture that was classified, as a small JPEG, because many"
        " browsers cannot show these formats. The `preview` of an image in the answer is this address.",
        "parameters": [REQUEST_ID, parameter("name", "`<number>-<file name>`, the end of its image-id.")],
        "responses": {
            "200": response("The preview.", {"image/jpeg": FILE}),
            **refused(404, 503),
        },
    },
    "events.stream_events": {
        "tags": ["Images"],
        "summary": "The answers of a request as they come",
        "description": "Server-sent events: `state` at the start and at each change, `image` for each answer."
        " The stream ends by itself after a `state` that is `complete`. Each event's id says"
        " which images were sent so far.",
        "parameters": [REQUEST_ID, LAST_EVENT_ID],
        "responses": {
            "200": response("The stream.", {"text/event-stream": {"schema": EVENT}}),
            **refused(404, 503),
        },
    },
    **BATCHES,
    "fleet.show_fleet": {
        "tags": ["Fleet"],
        "summary": "Queue, instances, decisions and costs",
        "parameters": [WINDOW, FORMAT],
        "responses": {
            "200": response("As it is now, and how it was lately.", model("FleetAnswer"), HTML, TEXT),
            **refused(400, 503),
        },
    },
    "metrics.show_metrics": {
        "tags": ["Fleet"],
        "summary": "Counters and gauges for Prometheus",
        "responses": {"200": response("Of all processes on the host.", TEXT)},
    },
    "health.healthz": {
        "tags": ["Health"],
        "summary": "Whether the controller is alive",
        "responses": {"200": response("It is.", json({"type": "object", "const": {"status": "alive"}}))},
    },
    "health.readyz": {
        "tags": ["Health"],
        "summary": "Whether buckets and queue can be reached",
        "responses": {
            "200": response("They can.", model("Readiness")),
            "503": response("They cannot: `problems` says why, by their names.", model("Readiness")),
        },
    },
    "health.admit": {
        "tags": ["Health"],
        "summary": "Whether the client may send uploads, which nginx asks before it takes one",
        "responses": {"200": response("It may.", json({"type": "object", "const": {"status": "admitted"}}))},
    },
    "api.show_document": {
        "tags": ["Health"],
        "summary": "This document",
        "responses": {"200": response("OpenAPI 3.1.", json({"type": "object"}))},
    },
    "api.show_page": {
        "tags": ["Pages"],
        "summary": "This document as a page, to try it",
        "responses": {"200": response("The page.", HTML)},
    },
    "upload.show_form": {
        "tags": ["Pages"],
        "summary": "The page to upload from",
        "responses": {"200": response("The page.", HTML)},
    },
    "sign_in.show_form": {
        "tags": ["Pages"],
        "summary": "The page to sign in",
        "parameters": [parameter("next", "The path to go on with.", "query")],
        "responses": {"200": response("The page.", HTML)},
    },
    "sign_in.enter": {
        "tags": ["Pages"],
        "summary": "Sign in with a token",
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": SIGN_IN_FORM}},
        },
        "responses": {
            "303": response("Signed in: the cookie is set.", headers=LEADS_ON),
            "401": response("The token is not known; the page says so.", HTML),
            **refused(413),
        },
    },
    "sign_in.leave": {
        "tags": ["Pages"],
        "summary": "Sign out",
        "responses": {"303": response("The cookie is gone.", headers=LEADS_ON)},
    },
    "static": {
        "tags": ["Pages"],
        "summary": "A style sheet, script or picture of the pages",
        "parameters": [parameter("filename", "Its name.")],
        "responses": {
            "200": response("The file.", {"*/*": {}}),
            "304": response("It has not changed."),
            **refused(404),
        },
    },
}
