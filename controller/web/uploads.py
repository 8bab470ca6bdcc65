"""From a multipart form to the images that it holds. Decodes only each file's header; no AWS."""

import hashlib
import os
from collections.abc import Iterable
from typing import IO, Any, BinaryIO, cast

from werkzeug.datastructures import FileStorage

from cloud.image_file import BadImage, check_header
from cloud.image_id import image_id
from cloud.prediction import Failure, FailureCode
from controller.image_requests.errors import EmptyFile, NoFile, TooManyFiles
from controller.image_requests.upload import Upload


def read_form(request_id: str, files: Iterable[FileStorage], max_files: int) -> list[Upload]:
    """The images in upload order. NoFile, EmptyFile when all are, TooManyFiles."""
    # A browser sends a part without a name or content for a file input that was left empty.
    chosen = [file for file in files if file.filename or size(file.stream)]
    if not chosen:
        raise NoFile("No file came with the request. Send one or more images as multipart/form-data.")
    if len(chosen) > max_files:
        raise TooManyFiles(f"{len(chosen)} files are too many: at most {max_files} in one request.")
    uploads = [read_file(request_id, number, file) for number, file in enumerate(chosen)]
    if all(upload.refusal and upload.refusal.code is FailureCode.EMPTY_FILE for upload in uploads):
        raise EmptyFile("The file is empty. Send an image.")
    return uploads


def read_file(request_id: str, number: int, file: FileStorage) -> Upload:
    content_type, refusal = "application/octet-stream", None
    try:
        content_type = check_header(cast(BinaryIO, file.stream))
    except BadImage as error:
        refusal = Failure(code=error.code, message=error.message)
    name = image_id(request_id, number, file.filename or "")
    return Upload(name, file.stream, content_type, refusal, digest(file.stream))


def digest(stream: IO[bytes]) -> str:
    """SHA-256, as hex digits. The stream is rewound."""
    found = hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()
    stream.seek(0)
    return found


def size(stream: IO[bytes]) -> int:
    """Bytes."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return end
