import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from cloud.settings import ControllerSettings
from deploy.make_ami import read_arguments
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


def test_the_disk_of_the_controller_is_larger_than_that_of_its_ami(monkeypatch):
    """EC2 launches no instance with a smaller one; that of an AMI for GPUs is several times as large."""
    assert "volume_size = var.controller_disk " in (FOLDER / "instances.tf").read_text()
    page = (FOLDER.parent / "README.md").read_text()
    [for_gpus] = re.findall(r"--base AMI --disk (\d+)\)", page)
    assert f"`controller_disk` {int(for_gpus) + 8}," in page
    monkeypatch.setattr("sys.argv", ["make_ami"])
    [default] = re.findall(r"default +\= (\d+)", declared()["controller_disk"])
    assert int(default) == read_arguments().disk + 8


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
        ("s3://photos/a\nb", False),
    ],
)
def test_a_source_of_batches_is_an_address_in_s3(source, right):
    [pattern] = re.findall(r'regex\((".*"), source\)', declared()["batch_sources"])
    assert bool(re.search(json.loads(pattern.replace("\\$", "$")), source)) is right


VARIABLES_ALONE = {"ami_id": "ami-12c6146b", "alarm_email": "you@example.com", "allowed_cidrs": "[]"}


def refusal(folder: Path, **given: str) -> str:
    """Returns what Terraform says against the variables of the plan, which are all that lies in `folder`."""
    shutil.copy(FOLDER / "variables.tf", folder)
    arguments = [f"-var={name}={value}" for name, value in {**VARIABLES_ALONE, **given}.items()]
    command = [need("terraform"), "plan", "-input=false", "-no-color", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ("Invalid value for variable" in done.stderr) == bool(done.returncode), done.stderr
    return " ".join(done.stderr.split()) if done.returncode else ""


def test_usual_values_of_the_variables_are_taken(tmp_path):
    usual = {"weights": "s3://models/Anna's flowers.pt", "labels": "/opt/image-classifier/weights/é.txt"}
    usual |= {"key_name": "my key", "host_names": '["classifier.example.org"]', "name": "a" * 43}
    usual |= {"instance_types": '["g5.xlarge", "c7i.metal-24xl"]', "worker_name": "worker_1"}
    assert refusal(tmp_path, **usual) == ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        *[
            (name, value, "contains no quotation mark, backslash, dollar sign or line break.")
            for name in ("weights", "labels", "key_name")
            for value in (
                's3://models/"a".pt',
                "s3://models/a\nb.pt",
                "s3://models/${a}.pt",
                "s3://models/a\\b",
            )
        ],
        ("ami_id", "", "The id of an AMI, such as ami-0123456789abcdef0."),
        ("ami_id", 'ami-1"', "The id of an AMI, such as ami-0123456789abcdef0."),
        ("name", "Classifier", "Up to 43 small letters, digits and hyphens"),
        ("name", "it's", "Up to 43 small letters, digits and hyphens"),
        ("worker_name", "a\nb", "1 to 100 letters, digits, dots, hyphens and underscores."),
        ("host_names", '["https://a.example.org"]', "without https:// and without a port."),
        ("instance_types", '["c7i.large", "c7i\\"large"]', "each of them like c7i.large."),
        ("instance_types", '["c7i.large "]', "each of them like c7i.large."),
        ("model", "resnet", "It is one of the models of docs/settings.md"),
        ("market", "Spot", "It is on-demand or spot."),
        ("precision", "fp16", "It is auto, fp32, bf16 or int8."),
        ("instance_types", "[]", "At least one instance type"),
    ],
)
def test_a_value_with_which_the_plan_would_fail_late_is_refused_at_once(tmp_path, name, value, words):
    """IAM would refuse the policy with it, S3 the name, or the controller would not start."""
    assert words in refusal(tmp_path, **{name: value})


def test_where_a_setting_is_one_of_several_words_the_plan_takes_only_these():
    chosen = {name.lower() for name in chosen_by_plan()}
    text = {name: block for name, block in declared().items() if re.search("type += string", block)}
    for name, field in ControllerSettings.model_fields.items():
        if name in chosen & text.keys() and get_origin(field.annotation) is Literal:
            [words] = re.findall(r"contains\((\[.*\]), var\.", text[name])
            assert json.loads(words) == list(get_args(field.annotation)), name


def test_every_setting_of_the_plan_reaches_the_controller_as_it_was_given(tmp_path):
    [expression] = re.findall(r"^  environment_file = (.*)$", (FOLDER / "main.tf").read_text(), re.MULTILINE)
    settings = {f"SETTING_{n}": value for n, value in enumerate(AWKWARD)}
    asked = f"jsonencode({expression.replace('local.environment', json.dumps(settings))})"
    done = subprocess.run(
        [need("terraform"), "console"], input=asked, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    file = json.loads(json.loads(done.stdout))
    assert dict(line.split("=", 1) for line in shlex.split(file)) == settings
