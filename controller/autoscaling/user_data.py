"""Puts the settings of a worker into the user data of its instance."""

import shlex
from collections.abc import Mapping

PLACE = "# SETTINGS\n"  # the line of deploy/userdata.sh that the settings replace


def render(template: str, settings: Mapping[str, str]) -> str:
    """Returns the user data: `template`, which is `deploy/userdata.sh`, with the settings filled in."""
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(settings.items()))
    return template.replace(PLACE, lines, 1)
