"""Reads the images of an upload. Only the header of each file is decoded, and AWS is not used."""

import hashlib
import os
from collections.abc import Iterable
from typing import IO, Any, BinaryIO, cast

from werkzeug.datastructures import FileStorage

from cloud.image_file import BadImage, check_header
from cloud.image_id import ImageId
from cloud.prediction import Failure
from controller.image_requests.errors import NoFile, TooManyFiles
from controller.image_requests.upload import Upload


def read_files(request_id: str, files: Iterable[FileStorage], max_files: int) -> list[Upload]:
    """Returns the images in upload order.

    Raises NoFile when there is no file, and TooManyFiles when there are more than `max_files`.
    """
    # If a file input is left empty, a browser still sends a part without a file name or content.
    chosen = [file for file in files if file.filename or size(file.stream)]
    if not chosen:
        raise NoFile("No file came with the request. Choose one or more images.")
    if len(chosen) > max_files:
        raise TooManyFiles(f"{len(chosen)} files are too many: at most {max_files} in one request.")
    return [read_file(request_id, number, file) for number, file in enumerate(chosen)]


def read_file(request_id: str, number: int, file: FileStorage) -> Upload:
    """Returns the file as an Upload, with a `refusal` if its header shows that it cannot be classified."""
    content_type, refusal = "application/octet-stream", None
    try:
        content_type = check_header(cast(BinaryIO, file.stream))
    except BadImage as error:
        refusal = Failure(code=error.code, message=error.message)
    image_id = ImageId.make(request_id, number, file.filename or "")
    return Upload(image_id, file.stream, content_type, refusal, digest(file.stream))


def digest(stream: IO[bytes]) -> str:
    """Returns the SHA-256 of the stream as hex digits, and rewinds the stream."""
    found = hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()
    stream.seek(0)
    return found


def size(stream: IO[bytes]) -> int:
    """Returns the size of the stream in bytes, and rewinds the stream."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return end
