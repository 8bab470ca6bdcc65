"""Reads multipart forms, and keeps little in memory of what is beside their files.

Werkzeug's own parser keeps each line of the headers of each file as an object, which takes thirty times its
bytes, and any number of fields.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import IO

from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest
from werkzeug.formparser import FormDataParser
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

CHUNK_BYTES = 32_768
LONGEST_HEADERS = 2 * CHUNK_BYTES  # of a part, about
MOST_TEXT = 2_000_000  # bytes of all headers and fields together; those of 1,000 files may have half of it

Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]


class Decoder(MultipartDecoder):
    """Reads the end of a form correctly even if it has come only up to between its last two dashes.

    Werkzeug's own then takes the first byte of the line break before it for a byte of the last file.
    """

    def _last_partial_boundary_index(self, data: bytes | bytearray) -> int:
        """Returns how many bytes of the data are no beginning of a boundary."""
        return super()._last_partial_boundary_index(data.removesuffix(b"-"))


class FormParser(FormDataParser):
    def _parse_multipart(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> Parsed:
        """Raises ValueError for what is no form, and RequestEntityTooLarge or BadRequest for too much."""
        boundary = options.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("the form has no boundary")
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, FileStorage]] = []
        text = 0
        part: Field | File | None = None
        content: IO[bytes] = BytesIO()
        decoder = Decoder(boundary, LONGEST_HEADERS, max_parts=self.max_form_parts)
        for event in events(stream, decoder):
            if isinstance(event, Field | File):
                part = event
                text += sum(len(name) + len(value) for name, value in event.headers)
                content = self._content_of(event, content_length)
            elif isinstance(event, Data) and part:
                text += len(event.data) if isinstance(part, Field) else 0
                content.write(event.data)
                if not event.more_data:
                    content.seek(0)
                    name = part.name or ""  # Werkzeug's may be None, whatever it declares
                    if isinstance(part, File):
                        files.append((name, FileStorage(content, part.filename, name)))
                    else:
                        fields.append((name, content.read().decode(errors="replace")))
            if text > MOST_TEXT:
                raise BadRequest(f"The names and fields of this form have over {MOST_TEXT:,} bytes together.")
        return stream, self.cls(fields), self.cls(files)

    def _content_of(self, part: Field | File, content_length: int | None) -> IO[bytes]:
        if isinstance(part, Field):
            return BytesIO()
        return self.stream_factory(
            total_content_length=content_length, content_type=None, filename=part.filename, content_length=0
        )


def events(stream: IO[bytes], decoder: MultipartDecoder) -> Iterator[Event]:
    """Yields what the form has, up to its end."""
    while True:
        chunk = stream.read(CHUNK_BYTES)
        decoder.receive_data(chunk or None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event
        if not chunk:
            return
