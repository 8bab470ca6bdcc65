"""Feeds a confined decoder with bad images, and says which answers are not as they should be.

    python -m tests.support.fuzz [--seconds 28800] [--seed N]

What it finds is kept in the folder .fuzz, whose files tests/unit/worker/test_bad_input.py tries first.
"""

import argparse
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import SystemRandom
from typing import Self

import psutil

from cloud.prediction import Failure
from tests.support.bad_images import CODES, BadImageFile, bad_image
from worker.decoder import Decoder, Exceeded
from worker.decoder_limits import PATIENT, QUICK
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

CORPUS = Path(__file__).parents[2] / ".fuzz"
PREPROCESSING = Preprocessing(64, 56, (0, 0, 0), (1, 1, 1))

SECONDS, SECONDS_PER_MEGABYTE = 1.0, 20.0
"""The line under which the processor time of a file must be: so much, and so much for each megabyte of it."""

MEGABYTES, MEGABYTES_PER_MEGABYTE = QUICK.megabytes + 100, 3
"""The line under which the memory of a decoder must be, in the same way."""


class Wrong(Exception):
    """A file was not answered as it should be. The message says how, and which file."""


class Fuzz:
    """A decoder that is given bad images, as a worker has one, and the answers by their codes."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.set_aside = 0
        self.slowest = self.largest = 0.0
        self._decoder = Decoder(QUICK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.__exit__()

    def check(self, file: BadImageFile) -> str:
        """Returns the code of the answer, or "decoded".

        Raises Wrong, and keeps the file, when it is none of CODES, or when the file is above a line.
        """
        try:
            code = self._quickly(file)
            if code not in CODES | {"decoded"}:
                raise Wrong(f"{code}: {file.origin}")
        except Wrong:
            CORPUS.mkdir(exist_ok=True)
            (CORPUS / sha256(file.data).hexdigest()[:16]).write_bytes(file.data)
            raise
        self.answers[code] += 1
        return code

    def _quickly(self, file: BadImageFile) -> str:
        process = psutil.Process(self._decoder._process.pid)
        before = used(process)
        try:
            found = self._decoder.decode(file.data, PREPROCESSING)
        except Exceeded:
            return self._patiently(file)
        seconds, megabytes = used(process) - before, process.memory_info().rss / 1e6
        size = len(file.data) / 1e6
        if seconds > SECONDS + SECONDS_PER_MEGABYTE * size:
            raise Wrong(f"it took {seconds:.1f} s: {file.origin}")
        if megabytes > MEGABYTES + MEGABYTES_PER_MEGABYTE * size:
            raise Wrong(f"it took {megabytes:.0f} MB: {file.origin}")
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, megabytes)
        return code_of(found)

    def _patiently(self, file: BadImageFile) -> str:
        self.set_aside += 1
        with Decoder(PATIENT) as decoder:
            try:
                return code_of(decoder.decode(file.data, PREPROCESSING))
            except Exceeded as exceeded:
                return str(exceeded.failure.code)

    def __str__(self) -> str:
        codes = ", ".join(f"{count} {code}" for code, count in self.answers.most_common())
        return (
            f"{self.answers.total()} bad images: {codes}; {self.set_aside} were set aside; of the others, the"
            f" slowest took {self.slowest:.2f} s of the processor, and the decoder had {self.largest:.0f} MB"
        )


def code_of(found: Pixels | Failure) -> str:
    return str(found.code) if isinstance(found, Failure) else "decoded"


def used(process: psutil.Process) -> float:
    """Returns the processor time of a process in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8 * 3600)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**40))
    options = parser.parse_args()
    print(f"for {options.seconds:.0f} s, from seed {options.seed}", flush=True)
    until, seed, wrong = time.monotonic() + options.seconds, options.seed, 0
    with Fuzz() as fuzz:
        while time.monotonic() < until:
            try:
                fuzz.check(bad_image(seed))
            except Wrong as error:
                wrong += 1
                print(error, flush=True)
            seed += 1
    print(f"{fuzz}; {wrong} were answered wrongly")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
