import re

from cloud.settings import ControllerSettings
from deploy.terraform_variables import ELSEWHERE, FILE, FOLDER, chosen_by_plan, render


def test_every_setting_is_a_variable_or_chosen_by_the_plan():
    declared = set(re.findall(r'^variable "(\w+)"', FILE.read_text(), re.MULTILINE))
    for name in ControllerSettings.model_fields:
        assert name in declared or name.upper() in chosen_by_plan() | ELSEWHERE, name


def test_the_file_is_up_to_date():
    assert FILE.read_text() == render(), "run: python -m deploy.terraform_variables"


def test_each_variable_is_declared_once():
    text = "".join(file.read_text() for file in FOLDER.glob("*.tf"))
    declared = re.findall(r'^variable "(\w+)"', text, re.MULTILINE)
    assert len(declared) == len(set(declared))
