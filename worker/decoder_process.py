"""A decoder: decodes one image file after the other, and can do nothing else. worker.decoder starts it.

`python -m worker.decoder_process SECONDS MEGABYTES PIXELS` serves a socket, which is its standard input,
within these Limits. It holds no secrets, and opens neither files nor connections once it has started.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from resource import RLIMIT_AS, RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC, getpagesize, setrlimit

import pillow_heif
from PIL import AvifImagePlugin, ImageCms, ImagePalette, MpoImagePlugin, TiffImagePlugin

from cloud.image_file import BadImage, decode
from worker.decoder_limits import EXIT_NO_MEMORY, READY, REPLY, REQUEST, Limits
from worker.preprocessing import Preprocessing
from worker.threads import NICE

IMPORTED_LATE = (ImageCms, ImagePalette, MpoImagePlugin, TiffImagePlugin)
"""What Pillow imports only when an image needs it. Then, a decoder could no longer open the file."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
"""Of <linux/prctl.h>."""


def main(limits: Limits) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # These may be sent to the whole process group. Only the worker reacts to them.
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=0) as worker:
        confine(limits)
        worker.sendall(READY)
        try:
            while head := worker.recv(REQUEST.size, socket.MSG_WAITALL):
                length, resize, crop = REQUEST.unpack(head)
                signal.setitimer(signal.ITIMER_PROF, limits.seconds)  # ends this process when it expires
                reply = answer(worker.recv(length, socket.MSG_WAITALL), resize, crop, limits.pixels)
                signal.setitimer(signal.ITIMER_PROF, 0)
                worker.sendall(reply)
        except MemoryError:
            return EXIT_NO_MEMORY
    return 0


def confine(limits: Limits) -> None:
    """Takes from this process, for good, what decoding does not need."""
    pillow_heif.options.DECODE_THREADS = AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with open("/proc/self/oom_score_adj", "w") as file:  # when memory runs out, this process is killed first
        file.write("1000")
    with open("/proc/self/statm") as file:
        already = int(file.read().split()[0]) * getpagesize()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes what strangers like to the log
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_DUMPABLE, 0), (PR_SET_NO_NEW_PRIVS, 1)):
        if prctl(option, int(value), 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"prctl({option})")
    setrlimit(RLIMIT_AS, (already + limits.megabytes * 1_000_000,) * 2)
    for none in (RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_CORE):  # no files, sockets or processes
        setrlimit(none, (0, 0))


def answer(file: bytes, resize: int, crop: int, most_pixels: int) -> bytes:
    """Returns the image as the network sees it, or why the file cannot be decoded, as REPLY says.

    Raises MemoryError when the memory is not enough, or may not have been.
    """
    try:
        image = Preprocessing(resize, crop, (0, 0, 0), (1, 1, 1)).square(decode(file))
        decoded, content = True, image.tobytes()
    except BadImage as bad:
        if bad.pixels > most_pixels:  # many libraries take a lack of memory for a broken file
            raise MemoryError from bad
        decoded, content = False, json.dumps({"code": bad.code, "message": bad.message}).encode()
    return REPLY.pack(decoded, len(content)) + content


if __name__ == "__main__":
    sys.exit(main(Limits(float(sys.argv[1]), *map(int, sys.argv[2:]))))
