"""Lets any name follow the address of this service when a file is put there, except for its own addresses."""

import re

from werkzeug.routing import BaseConverter, Map


def filename_converter(own: Map) -> type[BaseConverter]:
    """Returns the converter of a file name that is none of the addresses in `own`.

    Without this, each of those addresses would seem to take a PUT.
    """
    taken = "|".join(re.escape(rule.rule.removeprefix("/")) for rule in own.iter_rules())

    class FilenameConverter(BaseConverter):
        part_isolating = True
        regex = rf"(?!(?:{taken})\Z)[^/]+"

    return FilenameConverter
