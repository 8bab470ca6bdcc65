"""A worker that prints how long each part of its start took, just before its first receive.

`python -m bench.timed_worker STARTED` has the settings of a worker. STARTED is the time at which its process
was started, in seconds since 1970. It prints one JSON object: the seconds of each part, the time at which the
last one ended, and what was read from the disk until then. Until then, nothing is imported that a worker
does not import.
"""

import sys
import time
from collections.abc import Callable

REST = "settings, metadata, threads"


class Parts:
    """The parts of the start so far."""

    def __init__(self, started: float) -> None:
        self.at, self.seconds = started, dict[str, float]()
        """The time at which the last part ended, and the seconds of each part."""

    def end(self, part: str) -> None:
        """Adds the time since the end of the last part to this one."""
        now = time.time()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.at
        self.at = now

    def timed(self, part: str, function: Callable[..., object]) -> Callable[..., object]:
        """Returns the function, of which each call is this part."""

        def call(*arguments: object) -> object:
            self.end(REST)
            try:
                return function(*arguments)
            finally:
                self.end(part)

        return call


def main(parts: Parts) -> int:
    parts.end("the interpreter")
    import worker.__main__ as worker

    parts.end("imports")
    worker.make_worker_clients = parts.timed("clients of S3 and SQS", worker.make_worker_clients)
    worker.load_classifier = parts.timed("the model and its engine", worker.load_classifier)
    receive, said = worker.RequestQueue.receive, []

    def say_and_receive(*arguments: object) -> object:
        if not said:
            parts.end(REST)
            said.append(True)
            print_found(parts)
        return receive(*arguments)

    worker.RequestQueue.receive = say_and_receive
    return worker.main()


def print_found(parts: Parts) -> None:
    modules = len(sys.modules)
    import json

    from bench.disk_at_start import mapped_bytes, read_bytes

    disk = {"read": read_bytes(), "mapped": sum(mapped_bytes().values()), "modules": modules}
    print(json.dumps({"seconds": parts.seconds, "at": parts.at, "disk": disk}), flush=True)


if __name__ == "__main__":
    started = float(sys.argv.pop())
    sys.exit(main(Parts(started)))
