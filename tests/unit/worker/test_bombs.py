"""What a worker does with small files that take much time or memory to decode, and with the images beside."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from cloud.image_file import MAX_PIXELS
from local.driver import eventually
from tests.support.bombs import jpeg_of_scans, png
from tests.support.small_worker import grey, running
from worker.decoder_limits import PATIENT, Limits

HASTY = Limits(seconds=0.1, megabytes=200, pixels=10_000_000)


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """Of this process, which is the worker here."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, int], None]:
    """Sets the limits of the patient decoder."""
    return lambda seconds, megabytes=600: monkeypatch.setattr(
        "worker.pipeline.PATIENT", Limits(seconds, megabytes, PATIENT.pixels)
    )


def test_an_image_of_all_permitted_pixels_takes_no_memory_of_the_worker(make_loop, ask, outputs):
    strip = png(12_000, MAX_PIXELS // 12_000)
    assert len(strip) < 500_000
    reset_peak()
    before = peak_megabytes()
    ids = ask(*[strip] * 3, grey(250))
    make_loop().run(Event())
    assert peak_megabytes() - before < 50
    assert {outputs.get_prediction(one).status for one in ids} == {"classified"}


def test_an_image_that_takes_too_long_is_answered_and_those_beside_it_do_not_wait(
    make_loop, ask, outputs, patience
):
    patience(5)
    bombs, good = ask(*[jpeg_of_scans(4000)] * 3), ask(*[grey(250)] * 30)
    with running(make_loop()):
        eventually(lambda: all(outputs.get_prediction(one) for one in good), 60)
        assert outputs.get_prediction(bombs[-1]) is None
        eventually(lambda: any(outputs.get_prediction(one) for one in bombs), 60)
    [error, *_] = [found.error for one in bombs if (found := outputs.get_prediction(one))]
    assert (error.code, error.retryable) == ("crashes_decoder", False)
    assert "takes over 5 s" in error.message


def test_an_image_that_takes_too_much_memory_is_answered(make_loop, ask, outputs, patience):
    patience(PATIENT.seconds, 300)
    bomb, good = ask(png(12_000, 10_000), grey(250))
    make_loop().run(Event())
    error = outputs.get_prediction(bomb).error
    assert (error.code, error.retryable) == ("too_many_pixels", False)
    assert "takes over 300 MB of memory" in error.message
    assert outputs.get_prediction(good).label == "white"


def test_more_images_that_are_set_aside_than_a_worker_may_hold_keep_out_no_other(
    make_loop, ask, outputs, patience
):
    """Twenty is what a slow worker may hold, and each of these keeps the patient decoder busy for seconds."""
    patience(2)
    ask(*[jpeg_of_scans(1000)] * 25)
    [good] = ask(grey(250))
    with running(make_loop(HASTY)):
        eventually(lambda: outputs.get_prediction(good), 60)
    assert outputs.get_prediction(good).label == "white"


def test_what_is_set_aside_goes_back_to_the_queue_when_the_worker_ends(make_loop, ask, queue, patience):
    patience(2)
    ask(*[jpeg_of_scans(1000)] * 5)
    loop = make_loop(HASTY)
    with running(loop):
        eventually(lambda: loop.pipeline.aside._queue.qsize() >= 2, 60)
    counts = queue.counts()
    assert counts.visible >= 2
    assert counts.in_flight == 0
