import re
from pathlib import Path

from cloud.settings import ControllerSettings, default_of
from local.__main__ import DEFAULTS

README = Path(__file__).parents[2] / "README.md"
NOT_TOLD = {"MAX_INSTANCES", "AMI_ID", "AWS_REGION"}  # as good as those that a user would set


def settings_table() -> str:
    rows = []
    for name, field in ControllerSettings.model_fields.items():
        default = "(needed)" if field.is_required() else f"`{text}`" if (text := default_of(field)) else ""
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(["| setting | default | what it is |", "| --- | --- | --- |", *rows])


def test_the_readme_has_every_setting_as_it_is():
    assert settings_table() in README.read_text(), f"the table should be:\n{settings_table()}"


def test_the_readme_has_the_defaults_of_make_run():
    text = README.read_text().replace("\n", " ")
    own = re.findall(r"`([A-Z_]+)` \(`?([^`)]+)`?\)", text[text.index("It has defaults of its own for") :])
    told = {name: value for name, value in own if name in DEFAULTS}
    assert told.pop("MAX_INSTANCES") == "the number of cores, at most 4"
    assert told == {name: value for name, value in DEFAULTS.items() if name not in NOT_TOLD}
