"""Decodes image files in processes of their own, because a stranger's file may do anything to its decoder."""

import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import astuple
from math import prod
from pathlib import Path
from typing import Self

import numpy as np

from cloud.failure_code import FailureCode
from cloud.prediction import Failure
from worker.decoder_limits import EXIT_NO_MEMORY, READY, REPLY, REQUEST, WALL_SECONDS, Limits
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

COMMAND = (sys.executable, "-m", "worker.decoder_process")
CODE = Path(__file__).parents[1]
ENVIRONMENT = {"PYTHONNOUSERSITE": "1"}
"""All of a decoder's environment. That of the worker may have credentials."""

LONGEST_FAILURE = 10_000
"""The most bytes of a failure that is believed."""


class Exceeded(Exception):
    """The decoder ended instead of answering: the image takes more than its limits, or crashes it.

    `failure` says so to people, for the case that no other decoder shall try it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class CannotStart(Exception):
    """No decoder starts on this machine, for which no image is to blame. The worker should end."""


class Decoder:
    """A process that decodes one image at a time, within limits. It is replaced when it has ended.

    It gets none of the worker's environment, and its limits and `worker.decoder_process` leave it nothing to
    do but decode. Only one thread may use it. It starts at once, while the worker goes on.
    """

    _ready = False
    """Whether the process has said that it has started."""

    def __init__(self, limits: Limits, command: tuple[str, ...] = COMMAND) -> None:
        self.limits, self.command = limits, command
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def wait_until_ready(self) -> None:
        """Raises CannotStart when two processes, one after the other, do not start."""
        if self._ready or self._starts():
            return
        self._restart()  # when memory runs out, the kernel kills decoders first
        if not self._starts():
            raise CannotStart("a decoder cannot start")

    def _starts(self) -> bool:
        self._until = time.monotonic() + WALL_SECONDS
        with suppress(TimeoutError):
            self._ready = self._receive(1) == READY
        return self._ready

    def decode(self, data: bytes, preprocessing: Preprocessing) -> Pixels | Failure:
        """Returns the image as the network takes it, or why the file cannot be decoded.

        Raises Exceeded when the process ends instead of answering, and CannotStart as wait_until_ready does.
        """
        self.wait_until_ready()
        self._until = time.monotonic() + WALL_SECONDS
        try:
            return self._ask(data, preprocessing)
        except (OSError, ValueError, struct.error):  # it has ended, sleeps, or sends nonsense
            raise Exceeded(self._failure(self._restart())) from None

    def _ask(self, data: bytes, preprocessing: Preprocessing) -> Pixels | Failure:
        """Raises OSError, ValueError or struct.error when the process does not answer as it should."""
        self._socket.settimeout(WALL_SECONDS)
        self._socket.sendall(REQUEST.pack(len(data), preprocessing.resize, preprocessing.crop))
        self._socket.sendall(data)
        decoded, length = REPLY.unpack(self._receive(REPLY.size))
        if decoded:
            shape = (preprocessing.crop, preprocessing.crop, 3)
            return np.frombuffer(self._receive(prod(shape)), np.uint8).reshape(shape)
        return Failure.model_validate_json(self._receive(min(length, LONGEST_FAILURE)))

    def _receive(self, length: int) -> bytearray:
        """Returns so many bytes, or fewer when the process has ended. Raises TimeoutError when it is late."""
        found = bytearray(length)
        left = memoryview(found)
        while left:
            self._socket.settimeout(max(0.001, self._until - time.monotonic()))
            count = self._socket.recv_into(left)
            if not count:
                return found[: length - len(left)]
            left = left[count:]
        return found

    def _failure(self, status: int) -> Failure:
        """Returns what to say about an image with which the process has ended with this status."""
        if status == EXIT_NO_MEMORY:
            message = f"Decoding this picture takes over {self.limits.megabytes} MB of memory."
            return Failure(code=FailureCode.TOO_MANY_PIXELS, message=f"{message} Send a smaller one.")
        message = f"Decoding this picture crashes or takes over {self.limits.seconds:g} s."
        return Failure(code=FailureCode.CRASHES_DECODER, message=f"{message} Save it anew as a JPEG.")

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        command = [*self.command, *map(str, astuple(self.limits))]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd=CODE, env=ENVIRONMENT
                )
            except OSError as error:
                raise CannotStart(f"a decoder cannot start: {error}") from error
        self._ready = False

    def _end(self) -> int:
        """Ends the process. Returns its exit status, which is its own if it has ended by itself."""
        self._socket.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()

    def _restart(self) -> int:
        status = self._end()
        self._start()
        return status
