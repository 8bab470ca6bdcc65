import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.photos import PHOTOS
from cloud.image_file import FORMATS, decode
from cloud.prediction import Failure
from local.driver import eventually
from tests.support.bombs import png
from tests.support.pictures import encoded
from worker.decoder import CODE, COMMAND, CannotStart, Decoder, Exceeded
from worker.decoder_limits import PATIENT, QUICK, Limits
from worker.preprocessing import Preprocessing
from worker.threads import NICE

JPEG = PHOTOS["cat"][0]
PREPROCESSING = Preprocessing(256, 224, (0, 0, 0), (1, 1, 1))

Make = Callable[..., Decoder]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as decoders:
        yield lambda limits=QUICK, command=COMMAND: decoders.enter_context(Decoder(limits, command))


def pretends(code: str) -> tuple[str, ...]:
    """The command of a decoder that starts, and does this when it has received the first bytes of a file."""
    start = "import os, signal, socket, threading; s = socket.socket(fileno=0); s.sendall(b'R'); s.recv(1)\n"
    return (sys.executable, "-c", start + code)


def test_the_pixels_are_those_that_this_process_would_see(make: Make):
    decoder = make()
    for data, _ in PHOTOS.values():
        pixels = decoder.decode(data, PREPROCESSING)
        assert isinstance(pixels, np.ndarray)
        assert np.array_equal(pixels, PREPROCESSING.prepare(decode(data)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_confined_decoder_decodes_every_format(make: Make, format: str):
    cat = Image.open(CODE / "deploy/cat.jpg")
    for mode in ("RGB", "L", "P", "RGBA", "CMYK", "LAB"):
        try:
            data = encoded(cat.convert(mode), format)
        except (OSError, KeyError, ValueError):
            continue  # the format has no such images
        pixels = make().decode(data, PREPROCESSING)
        assert isinstance(pixels, np.ndarray), (mode, pixels)
        assert np.array_equal(pixels, PREPROCESSING.prepare(decode(data)))


def test_it_says_what_is_wrong_with_a_file(make: Make):
    decoder = make()
    for data, code in [(b"", "empty_file"), (b"Dear diary", "not_an_image"), (JPEG[:5000], "truncated")]:
        found = decoder.decode(data, PREPROCESSING)
        assert isinstance(found, Failure)
        assert found.code == code


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_file_that_kills_its_decoder_exceeds_it_and_the_next_one_is_decoded(make: Make, name: str):
    decoder = make(command=pretends(f"os.kill(os.getpid(), signal.{name})"))
    with pytest.raises(Exceeded) as caught:
        decoder.decode(JPEG, PREPROCESSING)
    assert caught.value.failure.code == "crashes_decoder"
    with pytest.raises(Exceeded):
        decoder.decode(JPEG, PREPROCESSING)
    decoder = make()
    os.kill(decoder._process.pid, getattr(signal, name))
    with suppress(Exceeded):  # unless it is killed before it has started
        decoder.decode(JPEG, PREPROCESSING)
    assert isinstance(decoder.decode(JPEG, PREPROCESSING), np.ndarray)


def test_each_image_has_its_own_time_and_memory(make: Make):
    """The limits are not of the decoder's whole life."""
    large = png(2000, 2000)
    decoder = make(Limits(seconds=1, megabytes=100, pixels=QUICK.pixels))
    for _ in range(40):
        assert isinstance(decoder.decode(large, PREPROCESSING), np.ndarray)


@pytest.mark.parametrize(
    "nonsense",
    [
        "s.sendall(b'x' * 5); s.close(); os._exit(0)",
        r"s.sendall(b'\0\xff\xff\xff\xff' + b'x' * 20_000)",
        r"s.sendall(b'\0\0\0\0\2{}')",
        "os._exit(0)",
    ],
)
def test_an_answer_that_makes_no_sense_is_none(make: Make, nonsense: str):
    with pytest.raises(Exceeded):
        make(command=pretends(nonsense)).decode(JPEG, PREPROCESSING)


def test_a_decoder_that_sleeps_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.decoder.WALL_SECONDS", 1)
    decoder = make(command=pretends("threading.Event().wait(100)"))
    process = decoder._process
    with pytest.raises(Exceeded):
        decoder.decode(JPEG, PREPROCESSING)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("why", ["raise SystemExit(1)", "import time; time.sleep(100)"])
def test_a_decoder_that_cannot_start_is_no_fault_of_the_image(
    make: Make, monkeypatch: pytest.MonkeyPatch, why: str
):
    monkeypatch.setattr("worker.decoder.WALL_SECONDS", 1)
    with pytest.raises(CannotStart):
        make(command=(sys.executable, "-c", why)).decode(JPEG, PREPROCESSING)


def test_a_decoder_without_a_process_is_no_fault_of_the_image(make: Make, monkeypatch: pytest.MonkeyPatch):
    decoder = make(command=pretends("os._exit(0)"))
    decoder.command = ("/nowhere",)
    with pytest.raises(CannotStart):
        decoder.decode(JPEG, PREPROCESSING)


def test_a_decoder_finishes_its_image_when_the_process_group_is_told_to_stop(make: Make):
    decoder = make()
    assert isinstance(decoder.decode(JPEG, PREPROCESSING), np.ndarray)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(decoder._process.pid, number)
        assert isinstance(decoder.decode(JPEG, PREPROCESSING), np.ndarray)


def test_several_threads_have_a_decoder_each(make: Make):
    sizes = []
    decoders = [make() for _ in range(4)]

    def work(decoder: Decoder) -> None:
        for _ in range(5):
            sizes.append(np.shape(decoder.decode(JPEG, PREPROCESSING)))

    threads = [threading.Thread(target=partial(work, decoder)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sizes == [(224, 224, 3)] * 20


def test_a_decoder_ends_with_its_worker():
    program = (
        "from worker.decoder import Decoder; from worker.decoder_limits import QUICK; import os, signal\n"
        "decoders = [Decoder(QUICK) for _ in range(2)]\n"
        "print(*(one._process.pid for one in decoders), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CODE, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 20)


def test_a_decoder_has_neither_the_worker_s_environment_nor_its_descriptors(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        decoder = make(command=(sys.executable, "-c", "import threading; threading.Event().wait(60)"))
        entry = Path(f"/proc/{decoder._process.pid}")
        assert eventually(entry.joinpath("environ").read_bytes, 20) == b"PYTHONNOUSERSITE=1\0"
        assert {link.name for link in entry.joinpath("fd").iterdir()} <= {"0", "1", "2", "3"}
        assert all(os.readlink(link) != file.name for link in entry.joinpath("fd").iterdir())


def test_a_decoder_that_is_replaced_has_the_priority_of_the_first(make: Make):
    decoder = make()
    priorities = set()
    for _ in range(3):
        decoder.decode(JPEG, PREPROCESSING)
        priorities.add(os.getpriority(os.PRIO_PROCESS, decoder._process.pid))
        os.kill(decoder._process.pid, signal.SIGKILL)
        with pytest.raises(Exceeded):
            decoder.decode(JPEG, PREPROCESSING)
    assert priorities == {NICE}


ESCAPES = {
    "a file": "open('/etc/passwd')",
    "a file to write": "open('/tmp/escaped', 'w')",
    "a connection": "socket.create_connection(('127.0.0.1', 80))",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a pipe": "os.pipe()",
    "memory": "bytes(2_000_000_000)",
    "more privileges": "assert not ctypes.CDLL(None).prctl(38, 0, 0, 0, 0)",
}


@pytest.mark.parametrize("what", ESCAPES)
def test_a_confined_process_can_neither_open_nor_send_nor_fill_anything(what: str):
    program = (
        "import ctypes, os, socket, sys; from worker.decoder_process import confine\n"
        "from worker.decoder_limits import PATIENT\n"
        "confine(PATIENT)\n"
        f"try: {ESCAPES[what]}\n"
        "except (OSError, MemoryError, AssertionError) as error: print(type(error).__name__)\n"
        "else: print('escaped')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CODE, env={}, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() in ("OSError", "MemoryError", "AssertionError", "PermissionError"), done


def test_a_decoder_loads_neither_torch_nor_the_engine_nor_aws():
    program = (
        "import sys, worker.decoder_process\n"
        "print(*{'torch', 'numpy', 'openvino', 'boto3', 'pydantic'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CODE, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == []


def test_the_limits_of_all_decoders_fit_into_the_instances_that_we_launch():
    """c7i.large has 4 GB and two cores; the worker itself takes 350 MB at most (bench/README.md)."""
    assert 2 * QUICK.megabytes + PATIENT.megabytes + 3 * 40 + 350 < 0.9 * 4000


def test_a_lack_of_memory_is_not_taken_for_a_broken_file(make: Make):
    """libjpeg cannot tell them apart when it has no room for the coefficients of a progressive image."""
    large = encoded(Image.new("L", (7000, 7000)), "JPEG", progressive=True)
    with pytest.raises(Exceeded) as caught:
        make(Limits(seconds=5, megabytes=60, pixels=10_000_000)).decode(large, PREPROCESSING)
    assert caught.value.failure.code == "too_many_pixels"
    assert isinstance(make(PATIENT).decode(large, PREPROCESSING), np.ndarray)
