"""Ray Serve: https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html"""

import os

import ray
from ray import serve
from starlette.requests import Request

from bench.servers import model


@serve.deployment(num_replicas=int(os.environ["WORKERS"]), max_ongoing_requests=4 * model.BATCH)
class Classify:
    def __init__(self) -> None:
        self.model = model.load()

    @serve.batch(max_batch_size=model.BATCH, batch_wait_timeout_s=model.WAIT_SECONDS)
    async def classify(self, photos: list[bytes]) -> list[str]:
        return self.model.classify([self.model.prepare(photo) for photo in photos])

    async def __call__(self, request: Request) -> dict[str, str]:
        return {"label": await self.classify(await request.body())}


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Classify.bind(), blocking=True)
