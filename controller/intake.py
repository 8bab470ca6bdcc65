"""From a multipart form to the images that it holds. Decodes only each file's header; no AWS."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO, cast

from werkzeug.datastructures import FileStorage

from cloud.image_id import image_id
from cloud.photo import BadImage, check_header
from cloud.prediction import Failure


class BadUpload(Exception):
    """The request as a whole cannot be taken."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after
        """Seconds, where it may be taken later."""


@dataclass(frozen=True)
class Upload:
    image_id: str
    stream: IO[bytes]
    content_type: str
    refusal: Failure | None
    """Why this file cannot be classified, when its header already tells."""
    sha256: str
    """Of its bytes, as hex digits."""

    def of(self, request_id: str) -> "Upload":
        """The same file, as an image of another request."""
        return replace(self, image_id=f"{request_id}/{self.image_id.partition('/')[2]}")


def read_form(request_id: str, files: Iterable[FileStorage], max_files: int) -> list[Upload]:
    """The images in upload order. BadUpload when there is none, all are empty, or there are too many."""
    # A browser sends a part without a name or content for a file input that was left empty.
    chosen = [file for file in files if file.filename or size(file.stream)]
    if not chosen:
        raise BadUpload(
            400, "no_file", "No file came with the request. Send one or more images as multipart/form-data."
        )
    if len(chosen) > max_files:
        raise BadUpload(
            413, "too_many_files", f"{len(chosen)} files are too many: at most {max_files} in one request."
        )
    uploads = [read_file(request_id, number, file) for number, file in enumerate(chosen)]
    if all(upload.refusal and upload.refusal.code == "empty_file" for upload in uploads):
        raise BadUpload(400, "empty_file", "The file is empty. Send an image.")
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
