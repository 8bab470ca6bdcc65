"""Finds what is wrong before a first run, and how to fix it: `python -m deploy.doctor [TIER]`.

Run it with the settings and the credentials of the controller or of a worker, for example on its instance.
The tier `account` is for before there is anything: it looks at the quotas and the network alone. The doctor
changes nothing. The exit status is 1 if something is wrong.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from pydantic import ValidationError

from cloud.clients import Clients
from cloud.misspelt_settings import misspelt_settings
from cloud.notices import region_of
from cloud.settings import ControllerSettings, SettingsError, WorkerSettings
from deploy.doctor import account, storage
from deploy.doctor.batches import check_batches
from deploy.doctor.findings import Finding, wrong
from deploy.doctor.notices import check_notices

MARKS = {"ok": "ok     ", "wrong": "WRONG  ", "unknown": "unknown"}
# With boto3's defaults, it could take minutes to find out that AWS cannot be reached.
QUICK = Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=15)


def main() -> int:
    parser = argparse.ArgumentParser("python -m deploy.doctor", description=__doc__)
    parser.add_argument("tier", nargs="?", choices=("account", "controller", "worker"), default="controller")
    tier = parser.parse_args().tier
    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
    counts: Counter[str] = Counter()
    for finding in examine(tier, session):
        print(f"{MARKS[finding.state]}  {finding.what}", flush=True)
        if finding.fix:
            print(f"         → {finding.fix}", flush=True)
        counts[finding.state] += 1
    problems, unknown = counts["wrong"], counts["unknown"]
    print(
        f"{problems or 'No'} problem{'' if problems == 1 else 's'} found for the {tier}"
        + (f", but {unknown} could not be looked for." if unknown else ".")
    )
    return int(problems > 0)


def examine(tier: str, session: Any) -> Iterator[Finding]:
    """Yields the findings in a fixed order. Stops early if region, credentials or settings are wrong."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    region = account.check_region(session.region_name, session.get_available_regions("ec2"), endpoint)
    yield region
    if region.state == "wrong":
        return
    try:
        sts = session.client("sts", config=QUICK)
        credentials = account.check_credentials(session.get_credentials() is not None, sts)
    except BotoCoreError as error:
        yield wrong(f"boto3 cannot be used as it is configured: {error}", "check ~/.aws and AWS_PROFILE")
        return
    yield from credentials
    if credentials[0].state == "wrong":
        return
    if tier == "account":
        yield from examine_account(session)
        return
    try:
        settings = read_settings(tier)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield wrong(
                line,
                "deploy/README.md says where the settings come from, and docs/settings.md what they mean",
            )
        return
    for misspelt in misspelt_settings(os.environ):
        yield wrong(misspelt, "correct its name, or remove it from the environment")
    clients = Clients(*(session.client(name, config=QUICK) for name in Clients._fields))
    yield from examine_storage(tier, settings, clients)
    if isinstance(settings, ControllerSettings):
        yield account.check_access(settings)
        if settings.notify_topic:
            sns = session.client("sns", region_name=region_of(settings.notify_topic), config=QUICK)
            yield from check_notices(clients.s3, sns, settings)
        yield from examine_fleet(settings, clients, session)
    else:
        yield from examine_model(settings, clients)


def read_settings(tier: str) -> WorkerSettings:
    if tier == "controller":
        return ControllerSettings.from_environment("ami_id")
    return WorkerSettings.from_environment()


def examine_account(session: Any) -> Iterator[Finding]:
    """Yields what must be right before there are buckets, for the instances that the settings call for."""
    from deploy.doctor import fleet

    ec2 = session.client("ec2", config=QUICK)
    planned = {"input_bucket": "not-yet-input", "output_bucket": "not-yet-output", "ami_id": ""}
    try:
        settings = ControllerSettings(**planned)  # type: ignore[arg-type]
    except ValidationError as error:
        yield wrong(str(error), "correct it in the environment")
        return
    yield fleet.check_network(ec2)
    yield from fleet.check_quota(ec2, session.client("service-quotas", config=QUICK), settings)


def examine_storage(tier: str, settings: WorkerSettings, clients: Clients) -> Iterator[Finding]:
    for use in storage.CONTROLLER if tier == "controller" else storage.WORKER:
        yield from storage.check_bucket(clients.s3, getattr(settings, use.setting.lower()), use)
    yield from storage.check_queue(clients.sqs, settings, controller=tier == "controller")
    if settings.batch_sources:
        yield from check_batches(clients, settings, controller=tier == "controller")


def examine_fleet(settings: ControllerSettings, clients: Clients, session: Any) -> Iterator[Finding]:
    from controller.container import launch_plan
    from deploy.doctor import fleet

    yield fleet.check_ami(
        clients.ec2, settings.ami_id, lambda region: session.client("ec2", region, config=QUICK)
    )
    plan = launch_plan(settings, clients.ec2.meta.region_name)
    yield from fleet.check_launches(clients.ec2, plan, settings)
    yield from fleet.check_instances(clients.ec2, settings.state_bucket, warm_pool=settings.warm_pool > 0)
    yield from fleet.check_quota(clients.ec2, session.client("service-quotas", config=QUICK), settings)


def examine_model(settings: WorkerSettings, clients: Clients) -> Iterator[Finding]:
    from deploy.doctor.model import check_model
    from worker.engine import load_classifier

    yield check_model(lambda: load_classifier(settings, clients.s3), settings.visibility_timeout)


if __name__ == "__main__":
    sys.exit(main())
