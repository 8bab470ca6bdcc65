"""Gives each thread its Python name in /proc too, as Python itself does from 3.14 on.

A process of Python does this when the folder of this file is in its PYTHONPATH. A bench can then see from
outside how much processor time each thread takes.
"""

from pathlib import Path
from threading import Thread, get_native_id

KERNEL_KEEPS = 15  # characters of a thread's name

run = Thread.run


def run_with_name(self: Thread) -> None:
    Path(f"/proc/self/task/{get_native_id()}/comm").write_text(self.name[:KERNEL_KEEPS])
    run(self)


Thread.run = run_with_name  # type: ignore[method-assign]
