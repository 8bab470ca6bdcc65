"""Gives the worker of an instance its settings at each boot: `python -m deploy.boot_settings`.

The unit image-classifier-settings runs this as soon as the machine boots. It asks the metadata service for
the user data until there is a network, and writes the settings in it to a file, without which the worker is
not started. Other instances of the same AMI, such as the controller's, have none in their user data. The user
data is a shell script, but here it is data: nothing of it is executed.
"""

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from worker.instance_metadata import LINK_LOCAL, Metadata

PAUSE_SECONDS = 0.05  # between two tries; without a network, they fail at once
SILENT_SECONDS = 10  # after so long without an answer, the log says so
BLOCK = re.compile(r"<< 'END_OF_WORKER_SETTINGS'\n(.*?)^END_OF_WORKER_SETTINGS$", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BOOT_TIMEOUT = 300  # the default of this setting, for when it cannot be read
DEAD_MAN = "DEAD_MAN_SECONDS"
"""What the unit image-classifier-dead-man reads from the file: the seconds between two of its looks."""


def wait_for_user_data(metadata: Metadata) -> str:
    """Returns the user data, or "" if there is none. Waits until the metadata service answers."""
    began, said = time.monotonic(), False
    while True:
        try:
            return metadata.user_data() or ""
        except OSError as error:
            if not said and time.monotonic() - began > SILENT_SECONDS:
                say(f"The instance metadata service does not answer yet: {error}")
                said = True
        time.sleep(PAUSE_SECONDS)


def find_settings(user_data: str) -> dict[str, str] | None:
    """Returns the settings of a worker in the user data, or None if it is not that of a worker.

    Raises ValueError when they are not lines of the form NAME=value, quoted as for a shell.
    """
    block = BLOCK.search(user_data)
    if block is None:
        return None
    found = {}
    for item in shlex.split(block[1]):
        name, equals, value = item.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise ValueError(f"{item!r} is not of the form NAME=value")
        found[name] = value
    return found


def as_environment_file(settings: Mapping[str, str]) -> str:
    """Returns the settings in the form of systemd's EnvironmentFile=, with the pause of the dead man."""
    timeout = settings.get("BOOT_TIMEOUT", "")
    seconds = 2 * (int(timeout) if re.fullmatch(r"[0-9]{1,6}", timeout) else BOOT_TIMEOUT)
    items = {**settings, DEAD_MAN: str(max(1, seconds))}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in items.items())


def main(file: Path) -> None:
    """Writes the settings to `file` if this is the instance of a worker."""
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", LINK_LOCAL)
    user_data = wait_for_user_data(Metadata(endpoint))
    try:
        settings = find_settings(user_data)
    except ValueError as error:
        say(f"The settings of the worker in the user data cannot be read: {error}")
        settings = {}  # the worker says what it lacks, and the machine is switched off
    if settings is None:
        missing = "contains no settings of a worker" if user_data else "is empty"
        say(f"The user data of this instance {missing} (END_OF_WORKER_SETTINGS): no worker is started.")
        return
    new = file.with_suffix(".new")
    new.write_text(as_environment_file(settings))
    new.rename(file)
    say(f"The user data has {len(settings)} settings of a worker, which is started.")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
