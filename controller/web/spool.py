"""Keeps large uploads on disk, with one temporary file for all images of a request.

By default, each file of a form that is smaller than half a megabyte would stay in memory, however many there
are, and each larger one would take a file descriptor.
"""

import io
import os
import tempfile
from threading import Lock
from typing import IO, cast

from flask import Request
from werkzeug.exceptions import BadRequest
from werkzeug.formparser import FormDataParser
from werkzeug.utils import cached_property
from werkzeug.wsgi import LimitedStream

from controller.web.form_parser import FormParser

IN_MEMORY = 1_000_000  # the most bytes of a request whose files stay in memory
LONGEST_BOUNDARY = 100
"""Characters. RFC 2046 allows 70, but Werkzeug's own test client uses up to 74.

A boundary of 8,000 may be compared at each place of a form, while no other thread runs.
"""


class Spool:
    """A temporary file that is gone when all its parts are closed."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - the last part closes it
        self.size = self.parts = 0
        self._lock = Lock()

    def part(self) -> "Part":
        """Returns a new part at the end. Only the last part may be written to."""
        self.parts += 1
        return Part(self)

    def leave(self) -> None:
        with self._lock:
            self.parts -= 1
            if not self.parts:
                self.file.close()


class Part(io.RawIOBase):
    """A part of a spool. Several threads may each read a part of their own."""

    def __init__(self, spool: Spool) -> None:
        self.spool, self.start = spool, spool.size
        self.size = self.position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Appends bytes, wherever the position is. Raises OSError when the disk is full."""
        rest = memoryview(data)
        while rest:  # a disk that is nearly full takes only a part of it, and then none
            written = os.pwrite(self.spool.file.fileno(), rest, self.start + self.size)
            self.size += written
            self.spool.size += written
            rest = rest[written:]
        return len(data)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        wanted = memoryview(buffer)[: max(0, self.size - self.position)]
        found = os.preadv(self.spool.file.fileno(), [wanted], self.start + self.position)
        self.position += found
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.spool.leave()


class SpooledRequest(Request):
    """A request whose files are in memory if they are small together, and in a spool otherwise."""

    form_data_parser_class = FormParser
    _spool: Spool | None = None

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body. Reading it raises ClientDisconnected if it ends before its Content-Length.

        Gunicorn takes what came before the connection broke for the whole body, and Werkzeug relies on that.
        """
        found, length = super().stream, self.content_length
        return found if length is None else cast(IO[bytes], LimitedStream(found, length))

    def make_form_data_parser(self) -> FormDataParser:
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _load_form_data(self) -> None:
        """Raises BadRequest when a form cannot be read. Flask would take it for an empty one."""
        if len(self.mimetype_params.get("boundary", "")) > LONGEST_BOUNDARY:
            raise BadRequest(f"The boundary of a form may have at most {LONGEST_BOUNDARY} characters.")
        try:
            super()._load_form_data()
        except UnicodeDecodeError:
            raise BadRequest("The name of a file in this form is not in UTF-8. Rename the file.") from None
        except ValueError:
            raise BadRequest(
                "This form cannot be read: it is cut, or it has another boundary than its Content-Type says."
            ) from None

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if total_content_length is not None and total_content_length <= IN_MEMORY:
            return io.BytesIO()
        if self._spool is None:
            self._spool = Spool()
        return cast(IO[bytes], self._spool.part())

    def close(self) -> None:
        """Closes the files at once, also those of a form that could not be read to its end."""
        super().close()
        if self._spool is not None:
            self._spool.file.close()
