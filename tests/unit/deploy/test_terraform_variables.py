import json
import re
import shlex
import subprocess

import pytest

from cloud.settings import ControllerSettings
from deploy.terraform_variables import ELSEWHERE, FILE, FOLDER, chosen_by_plan, render
from tests.support.awkward_values import AWKWARD
from tests.support.programs import need


def test_every_setting_is_a_variable_or_chosen_by_the_plan():
    declared = set(re.findall(r'^variable "(\w+)"', FILE.read_text(), re.MULTILINE))
    for name in ControllerSettings.model_fields:
        assert name in declared or name.upper() in chosen_by_plan() | ELSEWHERE, name


def test_the_file_is_up_to_date():
    assert FILE.read_text() == render(), "run: python -m deploy.terraform_variables"


def declared() -> dict[str, str]:
    """The variables of the plan, each with its block."""
    text = "".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(dict(blocks)), "one is declared twice"
    return dict(blocks)


def test_the_example_sets_what_has_no_default_and_names_only_variables():
    example = (FOLDER / "terraform.tfvars.example").read_text()
    named = set(re.findall(r"^(?:# )?(\w+) +=", example, re.MULTILINE))
    given = set(re.findall(r"^(\w+) +=", example, re.MULTILINE))
    assert named <= declared().keys()
    assert {name for name, block in declared().items() if "default" not in block} <= given


def test_the_commands_of_the_page_fill_in_the_example(tmp_path):
    page = (FOLDER.parent / "README.md").read_text()
    [command] = re.findall(r'^sed -i "(s/AMI.*?)" terraform.tfvars$', page, re.MULTILINE)
    script = command.replace("$ami", "ami-0123").replace(
        "$(curl -fsS https://checkip.amazonaws.com)", "192.0.2.7"
    )
    done = subprocess.run(
        ["sed", script, FOLDER / "terraform.tfvars.example"], capture_output=True, text=True, check=True
    )
    assert re.search(r'^ami_id +\= "ami-0123" ', done.stdout, re.MULTILINE)
    assert 'allowed_cidrs = ["192.0.2.7/32"]' in done.stdout


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("s3://photos", True),
        ("s3://photos/2026/a b", True),
        ("photos", False),
        ("s3://Photos/x", False),
        ("s3://photos/*", False),
        ('s3://photos/a", "b', False),
        ("s3://photos/a', 'b", False),
    ],
)
def test_a_source_of_batches_is_an_address_in_s3(source, right):
    [pattern] = re.findall(r'regex\((".*"), source\)', declared()["batch_sources"])
    assert bool(re.search(json.loads(pattern.replace("\\$", "$")), source)) is right


def test_every_setting_of_the_plan_reaches_the_controller_as_it_was_given(tmp_path):
    [expression] = re.findall(r"^  environment_file = (.*)$", (FOLDER / "main.tf").read_text(), re.MULTILINE)
    settings = {f"SETTING_{n}": value for n, value in enumerate(AWKWARD)}
    asked = f"jsonencode({expression.replace('local.environment', json.dumps(settings))})"
    done = subprocess.run(
        [need("terraform"), "console"], input=asked, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    file = json.loads(json.loads(done.stdout))
    assert dict(line.split("=", 1) for line in shlex.split(file)) == settings
