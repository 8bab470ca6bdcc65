from pathlib import Path

from cloud.settings import Settings

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "(needed)" if field.is_required() else f"`{field.default}`" if str(field.default) else ""
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(["| setting | default | what it is |", "| --- | --- | --- |", *rows])


def test_the_readme_has_every_setting_as_it_is():
    assert settings_table() in README.read_text(), f"the table should be:\n{settings_table()}"
