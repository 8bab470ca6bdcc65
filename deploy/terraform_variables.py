"""Writes the Terraform variables of all settings that the plan does not choose itself.

    python -m deploy.terraform_variables

A setting is chosen by the plan if `settings` in terraform/main.tf names it. A test finds out when
terraform/settings.tf is out of date.
"""

import json
import re
from pathlib import Path

from pydantic.fields import FieldInfo

from cloud.settings import ControllerSettings

FOLDER = Path(__file__).parent / "terraform"
FILE = FOLDER / "settings.tf"
BLOCK = re.compile(r"^  settings = \{\n(.*?)^  \}", re.DOTALL | re.MULTILINE)
NAME = re.compile(r"^    ([A-Z_]+) ", re.MULTILINE)
ELSEWHERE = {"API_TOKENS", "SECURITY_GROUP_IDS", "INSTANCE_PROFILE", "KEY_NAME"}
"""Tokens are in the parameter store, and the others in the launch template."""
HEAD = """\
# Written by `python -m deploy.terraform_variables`: the settings that main.tf does not choose. What is not
# set has the default that docs/settings.md says.
"""


def chosen_by_plan() -> set[str]:
    """Returns the names of the settings in `settings` of main.tf. Raises ValueError if it has none."""
    if (block := BLOCK.search((FOLDER / "main.tf").read_text())) is None:
        raise ValueError("terraform/main.tf has no block `settings`")
    return set(NAME.findall(block[1]))


def render() -> str:
    """Returns the content of settings.tf, formatted as `terraform fmt` does it."""
    names = {name.upper(): field for name, field in ControllerSettings.model_fields.items()}
    rest = {n: field for n, field in sorted(names.items()) if n not in chosen_by_plan() | ELSEWHERE}
    width = max(map(len, rest))
    lines = "".join(f"    {name:<{width}} = var.{name.lower()}\n" for name in rest)
    variables = "\n".join(variable(name, field) for name, field in rest.items())
    return f"{HEAD}\nlocals {{\n  further_settings = {{\n{lines}  }}\n}}\n\n{variables}"


def variable(name: str, field: FieldInfo) -> str:
    kind = "number" if field.annotation in (int, float) else "string"
    description = json.dumps(field.description, ensure_ascii=False).replace("${", "$${")
    return (
        f'variable "{name.lower()}" {{\n  description = {description}\n  type        = {kind}\n'
        "  default     = null\n}\n"
    )


if __name__ == "__main__":
    FILE.write_text(render())
