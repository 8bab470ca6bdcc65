"""Reads from an HTTP request what batch somebody asks for."""

from flask import request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.http import unquote_header_value

from controller.batches.errors import BadBatch
from controller.batches.order import Order, fingerprint, read_form, read_order
from controller.image_requests.idempotency import object_name
from controller.web.client_name import client_name

MOST_BYTES = 100_000
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
KEY_FIELD = "idempotency_key"


def is_form() -> bool:
    return request.mimetype in FORMS


def read_body() -> tuple[Order, object]:
    """Returns what is asked for, and how it was sent. Raises BadBatch when it cannot be understood."""
    request.max_content_length = MOST_BYTES
    try:
        if is_form():
            fields = request.form.to_dict(flat=False)
            fields.pop(KEY_FIELD, None)
            if any(name.lstrip().startswith("{") for name in fields):
                raise BadBatch("This JSON came as a form. Add the header 'Content-Type: application/json'.")
            return read_form(fields), fields
        if not request.is_json:
            raise BadBatch("Send JSON, with the header 'Content-Type: application/json', or a form.")
        asked = request.get_json()
        return read_order(asked), asked
    except RequestEntityTooLarge:
        raise BadBatch(f"This is too long: a batch is asked for in at most {MOST_BYTES:,} bytes.") from None
    except BadRequest as error:
        raise BadBatch(str(error.description) if is_form() else "This is not valid JSON.") from None
    except RecursionError:
        raise BadBatch("This JSON is nested too deeply.") from None


def key_use(order: Order, asked: object) -> tuple[str, str] | None:
    """Returns the name of the object of the Idempotency-Key, if there is one, and a hash of what was asked.

    A browser cannot send the header with a form, so the page's form has the key in a field.
    """
    key = request.headers.get("Idempotency-Key", request.form.get(KEY_FIELD))
    if key is None:
        return None
    name = object_name(unquote_header_value(key), f"{client_name()}\nbatches")
    return name, fingerprint(order, asked)
