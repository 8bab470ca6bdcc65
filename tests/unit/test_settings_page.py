from pathlib import Path

from cloud.settings import ControllerSettings, default_of
from local.__main__ import DEFAULTS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
OF_MAKE_RUN = DEFAULTS | {"MAX_INSTANCES": "number of cores, at most 4"}  # it is counted on this machine


def settings_table() -> str:
    rows = []
    for name, field in ControllerSettings.model_fields.items():
        default = "(needed)" if field.is_required() else code(default_of(field))
        own = OF_MAKE_RUN.get(name.upper(), "")
        own = own if " " in own else code(own)
        rows.append(f"| `{name.upper()}` | {default} | {own} | {field.description} |")
    head = ["| setting | default | with `make run` | what it is |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def test_the_page_has_every_setting_as_it_is():
    assert settings_table() in PAGE.read_text(), f"the table should be:\n{settings_table()}"
