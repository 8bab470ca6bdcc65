"""Finds the files of an upload: the parts of a form, or the body itself."""

import re
import shlex
from typing import IO

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.http import parse_options_header

from controller.image_requests.errors import NoFile

FORM = "multipart/form-data"
NO_FILES = ("application/x-www-form-urlencoded", "application/json")
"""The content types whose bodies are never taken as files. curl states the first one unless it is told."""
CHUNK_BYTES = 65536
ADDRESSES = ("http://", "https://", "s3://")
FILE_NAME = re.compile(r"[^\n'\"]{1,250}\.[A-Za-z]{3,4}")


def sent_files(request: Request, filename: str = "") -> list[FileStorage]:
    """Returns the files of the request. `filename` is the one in its URL, if any.

    Raises NoFile, with a hint, when the body is of a kind that has no files.
    """
    if request.mimetype == FORM:
        files = [file for _, file in request.files.items(multi=True)]
        if not files:
            raise NoFile(hint(request.form) or no_file(request))
        return files
    if request.mimetype in NO_FILES:
        raise NoFile(no_file(request))
    stream, size = body(request)
    name = filename or parse_options_header(request.headers.get("Content-Disposition"))[1].get("filename", "")
    if not (size or name or request.mimetype):
        raise NoFile(no_file(request))
    return [FileStorage(stream, name or "unnamed", content_type=request.mimetype)]


def body(request: Request) -> tuple[IO[bytes], int]:
    """Returns the body, kept where the files of a form are kept, and its size in bytes."""
    stream, size = request._get_file_stream(request.content_length, request.mimetype), 0
    while chunk := request.stream.read(CHUNK_BYTES):
        size += stream.write(chunk)
    stream.seek(0)
    return stream, size


def hint(form: MultiDict[str, str]) -> str:
    """Returns what to do about a form with a file's name or address in place of the file, or ""."""
    for field, text in form.items(multi=True):
        if text.startswith(ADDRESSES):
            return "No file came with the request, only its address. Download the file, and send it."
        if FILE_NAME.fullmatch(text):
            option = shlex.quote(f"{field or 'image_file'}=@{text}")
            return f"No file came with the request, only its name. Put @ before the file name: -F {option}"
    return ""


def no_file(request: Request) -> str:
    wrong = request.mimetype in NO_FILES
    why = f": a body of the type {request.mimetype} is not taken for one" if wrong else ""
    return (
        f"No file came with the request{why}. Send one image as the body, as with"
        f" `curl -T cat.jpg {request.url_root}`, or several as multipart/form-data, as with"
        f" `curl -F image_file=@cat.jpg -F image_file=@dog.jpg {request.url_root}`."
    )
