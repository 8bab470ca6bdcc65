"""Finds environment variables that are no settings, but look like one that was misspelt."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from cloud.settings import ControllerSettings

ALIKE = 0.88  # from 0 to 1; one wrong, missing or transposed letter is within it, another word is not


def misspelt_settings(names: Iterable[str], own: Sequence[str] = ()) -> list[str]:
    """Returns a sentence for each environment variable in `names` that looks like a misspelt setting.

    `own` are the settings that only the calling program has.
    """
    settings = [*(name.upper() for name in ControllerSettings.model_fields), *own]
    sentences = []
    for name in sorted(set(names) - set(settings)):
        if found := get_close_matches(name.upper(), settings, 1, ALIKE):
            sentences.append(f"{name} is not a setting, and is ignored: the nearest one is {found[0]}.")
    return sentences
