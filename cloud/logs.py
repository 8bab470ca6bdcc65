import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def configure(level: str) -> None:
    """For the roots: one JSON object a line on stderr, with whatever `extra` a call gives."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
            json_ensure_ascii=False,
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "PIL"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
