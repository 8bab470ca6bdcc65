"""Mosec: https://mosecorg.github.io/mosec/examples/pytorch.html

Without --timeout, it gives up a request after three seconds.
"""

import os

from mosec import Server, Worker

from bench.servers import model


class Classify(Worker):
    def __init__(self) -> None:
        self.model = model.load()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, str]]:
        labels = self.model.classify([self.model.prepare(photo) for photo in data])
        return [{"label": label} for label in labels]


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classify,
        num=int(os.environ["WORKERS"]),
        max_batch_size=model.BATCH,
        max_wait_time=int(model.WAIT_SECONDS * 1000),
    )
    server.run()
