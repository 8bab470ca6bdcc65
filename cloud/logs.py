import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def json_formatter() -> logging.Formatter:
    """One JSON object a line, with whatever `extra` a call gives."""
    return JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
        json_ensure_ascii=False,
    )


def name_request(record: logging.LogRecord) -> bool:
    """Whatever concerns an image concerns its request, whose id the image-id begins with."""
    if isinstance(image_id := getattr(record, "image_id", None), str):
        record.request_id = image_id.partition("/")[0]
    return True


def configure(level: str) -> None:
    """For the roots: JSON lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter())
    handler.addFilter(name_request)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
