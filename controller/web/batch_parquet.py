"""Writes the outcomes of a batch as a Parquet file, a piece at a time, if pyarrow is installed."""

from collections.abc import Iterable, Iterator
from io import RawIOBase
from itertools import islice
from typing import Any

from controller.batches.rows import Outcome
from controller.web.batch_tables import as_record

ROW_GROUP = 10_000  # rows


class NoPyarrow(Exception):
    """pyarrow is not installed. The message says how to install it."""


def as_parquet(outcomes: Iterable[Outcome]) -> Iterator[bytes]:
    """Returns the pieces of the file, which are written as they are taken. Raises NoPyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise NoPyarrow(
            "This service cannot write Parquet, because pyarrow is not installed (`pip install pyarrow`"
            " where the controller runs). There are CSV (`text/csv`) and JSON lines (`application/jsonl`)."
        ) from None
    schema = schema_of(pyarrow)

    def pieces() -> Iterator[bytes]:
        iterator, sink = iter(outcomes), Sink()
        with parquet.ParquetWriter(sink, schema) as writer:
            while group := [flat(as_record(one)) for one in islice(iterator, ROW_GROUP)]:
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
                yield sink.take()
        yield sink.take()

    return pieces()


class Sink(RawIOBase):
    """A file that is written from its start to its end, and keeps nothing of what was taken from it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._taken = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._kept += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self._kept)

    def take(self) -> bytes:
        """Returns what was written since the last time."""
        taken = bytes(self._kept)
        self._taken += len(taken)
        self._kept.clear()
        return taken


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
