"""LitServe: https://lightning.ai/docs/litserve/speed-up-serving-by-200x"""

import os
from typing import Any

import litserve as ls

from bench.servers import model


class Classify(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = model.load()

    def decode_request(self, request):  # LitServe would take an annotation for the type of the body
        return self.model.prepare(request["image"].file.read())

    def predict(self, batch: Any) -> list[str]:
        return self.model.classify(batch)

    def encode_response(self, label: str) -> dict[str, str]:
        return {"label": label}


if __name__ == "__main__":
    api = Classify(max_batch_size=model.BATCH, batch_timeout=model.WAIT_SECONDS)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
