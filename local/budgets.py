"""Adds the calls to AWS Budgets that Terraform makes and moto does not implement.

Source: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_Operations_AWS_Budgets.html
"""

import json

from moto.budgets.responses import BudgetsResponse


def describe_subscribers_for_notification(self: BudgetsResponse) -> str:
    budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
    asked = self._get_param("Notification").items()
    found = [n.subscribers for n in budget.notifications if asked <= n.details.items()]
    return json.dumps({"Subscribers": found[0] if found else []})


def list_tags_for_resource(self: BudgetsResponse) -> str:
    return json.dumps({"ResourceTags": []})


def complete_moto() -> None:
    for call in (describe_subscribers_for_notification, list_tags_for_resource):
        setattr(BudgetsResponse, call.__name__, call)
