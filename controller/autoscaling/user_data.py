import shlex
from collections.abc import Mapping

PLACE = "# SETTINGS\n"


def render(template: str, settings: Mapping[str, str]) -> str:
    """The user data of a worker instance: `deploy/userdata.sh` with the settings in their place."""
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(settings.items()))
    return template.replace(PLACE, lines, 1)
