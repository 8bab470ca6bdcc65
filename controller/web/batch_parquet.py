"""Writes the outcomes of a batch as a Parquet file, if pyarrow is installed."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

from controller.batches.rows import Outcome
from controller.web.batch_tables import as_record

ROW_GROUP = 10_000  # rows
CHUNK = 1 << 16  # bytes


class NoPyarrow(Exception):
    """pyarrow is not installed. The message says how to install it."""


def parquet_file(outcomes: Iterable[Outcome]) -> IO[bytes]:
    """Returns a temporary file, at its start. Raises NoPyarrow, and OSError when the disk is full."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise NoPyarrow(
            "This service cannot write Parquet, because pyarrow is not installed (`pip install pyarrow`"
            " where the controller runs). There are CSV (`text/csv`) and JSON lines (`application/jsonl`)."
        ) from None
    schema = schema_of(pyarrow)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - `chunks` closes it
    iterator = iter(outcomes)
    try:
        with parquet.ParquetWriter(file, schema) as writer:
            while group := [flat(as_record(one)) for one in islice(iterator, ROW_GROUP)]:
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def schema_of(pyarrow: Any) -> Any:
    text, number = pyarrow.string(), pyarrow.float64()
    label = pyarrow.struct([("label", text), ("confidence", number)])
    return pyarrow.schema(
        [
            ("key", text),
            ("status", text),
            ("label", text),
            ("confidence", number),
            ("predictions", pyarrow.list_(label)),
            ("error_code", text),
            ("error_message", text),
        ]
    )


def flat(record: dict[str, Any]) -> dict[str, Any]:
    error = record.pop("error") or {}
    return {**record, "error_code": error.get("code"), "error_message": error.get("message")}


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
