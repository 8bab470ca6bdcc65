from pathlib import Path

from cloud.settings import ControllerSettings, default_of

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    rows = []
    for name, field in ControllerSettings.model_fields.items():
        default = "(needed)" if field.is_required() else f"`{text}`" if (text := default_of(field)) else ""
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(["| setting | default | what it is |", "| --- | --- | --- |", *rows])


def test_the_readme_has_every_setting_as_it_is():
    assert settings_table() in README.read_text(), f"the table should be:\n{settings_table()}"
