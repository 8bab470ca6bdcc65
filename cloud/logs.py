"""Configures logging: JSON lines on stderr."""

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from cloud.image_id import ImageId


class TimeFirst(JsonFormatter):
    """Puts the timestamp first, so that the `sort` command sorts log lines by time."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {"timestamp": log_data.pop("timestamp"), **log_data}


def json_formatter() -> logging.Formatter:
    """Returns a formatter that writes one JSON object per line, including the `extra` of a logging call."""
    return TimeFirst(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
        json_ensure_ascii=False,
    )


def name_request(record: logging.LogRecord) -> bool:
    """A logging filter that adds the request-id to every record that has an image-id."""
    if isinstance(image_id := getattr(record, "image_id", None), ImageId):
        record.request_id = image_id.request_id
    return True


def configure(level: str) -> None:
    """Configures the root logger. A program calls this once, when it starts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter())
    handler.addFilter(name_request)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
