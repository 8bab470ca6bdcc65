"""A worker's model for tests, which needs neither weights nor an engine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from threading import Event, Thread

from PIL import Image

from worker.consumer import Consumer
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

MAX_RECEIVES = 3


class Brightness:
    """A model of two classes that looks at one pixel."""

    model, engine, precision, streams = "brightness (test)", "test", "fp32", 1
    batch_sizes: tuple[int, ...] = (1, 2, 3, 4, 5)
    preprocessing = Preprocessing(8, 8, (0, 0, 0), (1, 1, 1))

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.on_classify: Callable[[], None] = lambda: None

    def classify(self, images: Sequence[Pixels], labels: int) -> list[list[tuple[str, float]]]:
        self.batches.append(len(images))
        self.on_classify()
        return [
            [("white", 0.9), ("black", 0.1)] if one[0, 0, 0] > 127 else [("black", 0.8), ("white", 0.2)]
            for one in images
        ]


def grey(level: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (8, 8), level).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def running(loop: Consumer) -> Iterator[Event]:
    """Runs a worker that ends only when the event is set, at the latest at the end of the block."""
    loop.idle_seconds, stop = 0, Event()
    thread = Thread(target=loop.run, args=[stop])
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()
