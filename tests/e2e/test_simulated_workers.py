import time
from pathlib import Path

import requests

from bench.client import form_of, send_all
from bench.growth import labelled
from bench.photos import different_photos
from bench.simulated import simulated
from bench.simulated_worker import simulated_workers
from local.driver import ask, eventually

IMAGES, RATE = 10, 20.0


def test_simulated_workers_answer_every_image_at_their_pace(tmp_path: Path):
    post = form_of(different_photos(IMAGES))
    with (
        simulated(tmp_path / "output", MODEL="efficientnet_lite0") as system,
        simulated_workers(system, RATE),
    ):
        (reply,), seconds = send_all(system.url, [post], clients=1)
        assert labelled(reply) == IMAGES
        assert IMAGES / RATE <= seconds < 10 * IMAGES / RATE


def test_simulated_workers_wait_for_their_backlog(tmp_path: Path):
    first, second = (("photo.jpg", photo) for photo in different_photos(2))
    with (
        simulated(tmp_path / "output", MODEL="efficientnet_lite0") as system,
        simulated_workers(system, RATE, backlog=2),
    ):
        address = ask(system, first)
        time.sleep(2)
        assert waiting(address) == 1
        ask(system, second)
        eventually(lambda: not waiting(address))


def waiting(address: str) -> int:
    count: int = requests.get(address, timeout=10).json()["counts"]["waiting"]
    return count
