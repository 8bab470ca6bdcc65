"""Checks what the controller needs from EC2: the AMI, the quota and the permissions.

Permissions are checked by dry runs, which change nothing.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from cloud.clients import Client, EC2Client
from cloud.settings import ControllerSettings
from controller.autoscaling.ec2_fleet import LaunchPlan
from controller.autoscaling.launch_errors import NO_SPOT_ROLE, WRONG_SETTINGS
from deploy.doctor.findings import Finding, attempt, denied, ok, unknown, wrong

WOULD_SUCCEED = "DryRunOperation"  # EC2's error code for a dry run of an allowed call
NO_INSTANCE = "i-0123456789abcdef0"  # the id of an instance that does not exist
# The quota codes by class of instance types and market. Source:
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
QUOTAS = {
    ("standard", "on-demand"): "L-1216C47A",
    ("standard", "spot"): "L-34B43A08",
    ("g", "on-demand"): "L-DB2E81BA",
    ("g", "spot"): "L-3819A6DF",
    ("p", "on-demand"): "L-417A185B",
    ("p", "spot"): "L-7212CCBC",
}
FAMILIES = {  # the class of instance types, by the letters with which a type begins
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), "standard"),
    **dict.fromkeys(("g", "gr", "vt"), "g"),
    "p": "p",
}
SETTINGS = WRONG_SETTINGS | {"Unsupported": "INSTANCE_TYPE or SUBNET_IDS"}
"""The setting that is wrong, by the beginning of EC2's error code."""


def check_ami(ec2: EC2Client, ami_id: str, elsewhere: Callable[[str], Client]) -> Finding:
    """Checks that the AMI can be used in this region.

    `elsewhere` makes a client for another region, where the AMI is looked for if it is missing here.
    """
    here = ec2.meta.region_name
    reply = attempt(ec2.describe_images, ImageIds=[ami_id])
    if reply.denied:
        return unknown(
            f"AMI_ID: {ami_id}", "ec2:DescribeImages is not allowed, and the controller does not need it"
        )
    if reply.undecided:
        return unknown(f"AMI_ID: {ami_id}", reply.message or reply.code)
    found = reply.content.get("Images", [])
    if not reply.code and found:
        state = found[0]["State"]
        if state == "available":
            return ok(f"AMI_ID: {ami_id} ({found[0].get('Name', '')})")
        return wrong(
            f"AMI_ID: {ami_id} is {state}",
            "wait until it is available, or make another: see deploy/README.md",
        )
    if region := find_ami(ec2, ami_id, elsewhere):
        return wrong(
            f"AMI_ID: {ami_id} is in {region}, not in {here}",
            f"set AWS_REGION={region}, or copy it: `aws ec2 copy-image --source-region {region}"
            f" --source-image-id {ami_id} --name image-classifier --region {here}`",
        )
    return wrong(f"AMI_ID: there is no {ami_id} in {here}", "make one: `python -m deploy.make_ami`")


def find_ami(ec2: EC2Client, ami_id: str, elsewhere: Callable[[str], Client]) -> str | None:
    """Returns the name of another region that has the AMI, or None."""
    reply = attempt(ec2.describe_regions)
    names = [region["RegionName"] for region in reply.content.get("Regions", [])]
    for name in names:
        if name != ec2.meta.region_name:
            found = attempt(elsewhere(name).describe_images, ImageIds=[ami_id])
            if not found.code and found.content["Images"]:
                return str(name)
    return None


def check_launches(ec2: EC2Client, plan: LaunchPlan, settings: ControllerSettings) -> Iterator[Finding]:
    """Checks by dry runs that workers can be launched, in each market in which they may be."""
    yield check_launch(ec2, plan, settings.state_bucket)
    if settings.batch_sources:  # a batch may ask for the other market
        yield check_launch(ec2, plan, settings.state_bucket, spot=not plan.is_spot(None))


def check_launch(ec2: EC2Client, plan: LaunchPlan, name: str, *, spot: bool | None = None) -> Finding:
    """Checks by a dry run that a worker can be launched."""
    market, instance_type, subnet = next(plan.choices(spot))
    arguments = plan.arguments(market, instance_type, subnet)
    reply = attempt(ec2.run_instances, **launch(arguments, name))
    if reply.code == WOULD_SUCCEED or not reply.code:
        return ok(f"launch: {instance_type}, {market}")
    if reply.code == NO_SPOT_ROLE:
        return wrong(
            "this account has never had a spot instance, and this role may not prepare it for one",
            "run `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once",
        )
    if reply.denied:
        if "IamInstanceProfile" in arguments:
            without = {k: v for k, v in arguments.items() if k != "IamInstanceProfile"}
            if attempt(ec2.run_instances, **launch(without, name)).code == WOULD_SUCCEED:
                return denied("iam:PassRole", f"the role of the instance profile {plan.instance_profile}")
        return denied(
            "ec2:RunInstances, ec2:CreateTags or iam:PassRole",
            "instances or the resources that they are launched from",
        )
    if reply.undecided:
        return unknown("the launch of a worker", reply.message or reply.code)
    if reply.code.startswith("InvalidAMIID"):
        return wrong(f"AMI_ID: {reply.message}", "make one in this region: `python -m deploy.make_ami`")
    setting = next((name for code, name in SETTINGS.items() if reply.code.startswith(code)), "the settings")
    return wrong(f"EC2 would not launch a worker: {reply.message}", f"check {setting} ({reply.code})")


def launch(arguments: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the arguments for a dry run of the launch that controller/autoscaling/ec2_fleet.py makes."""
    tags = [{"Key": "fleet", "Value": name}]
    specification = [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")]
    return {**arguments, "MinCount": 1, "MaxCount": 1, "TagSpecifications": specification, "DryRun": True}


def check_instances(ec2: EC2Client, name: str, *, warm_pool: bool = False) -> Iterator[Finding]:
    """Checks the permissions to list, tag and terminate instances, and to stop and start them.

    The last two are needed only with a warm pool. All but the first may be allowed for workers only, so they
    cannot be checked while there is none.
    """
    reply = attempt(ec2.describe_instances, Filters=[{"Name": "tag:fleet", "Values": [name]}])
    if reply.code:
        yield reply.failure("ec2:DescribeInstances", "*")
        return
    found = [i["InstanceId"] for r in reply.content.get("Reservations", []) for i in r["Instances"]]
    one = found[0] if found else NO_INSTANCE
    tags = [{"Key": "Name", "Value": f"{name}-1"}]
    calls = {
        "ec2:TerminateInstances": attempt(ec2.terminate_instances, InstanceIds=[one], DryRun=True),
        "ec2:CreateTags": attempt(ec2.create_tags, Resources=[one], Tags=tags, DryRun=True),
    }
    if warm_pool:
        calls["ec2:StopInstances"] = attempt(ec2.stop_instances, InstanceIds=[one], DryRun=True)
        calls["ec2:StartInstances"] = attempt(ec2.start_instances, InstanceIds=[one], DryRun=True)
    for action, answer in calls.items():
        if answer.denied and found:
            yield denied(action, f"the worker {one}")
        elif answer.denied:
            yield unknown(action, "this needs a worker that is running")
        else:
            yield from answer.unless_allowed(action, f"the worker {one}")


def check_network(ec2: EC2Client) -> Finding:
    """Checks that the region has a default VPC, which the plan uses unless it is told of another."""
    reply = attempt(ec2.describe_vpcs, Filters=[{"Name": "is-default", "Values": ["true"]}])
    if reply.code:
        return unknown("the default VPC", reply.message or reply.code)
    if found := reply.content.get("Vpcs"):
        return ok(f"default VPC: {found[0]['VpcId']}")
    return wrong(
        "this region has no default VPC",
        "make one with `aws ec2 create-default-vpc`, or set vpc_id and subnet_ids in terraform.tfvars, and"
        " give make_ami one of the subnets (--subnet)",
    )


def check_quota(ec2: EC2Client, quotas: Client, settings: ControllerSettings) -> Iterator[Finding]:
    types = list(settings.instance_type)
    reply = attempt(ec2.describe_instance_types, InstanceTypes=types)
    if reply.code.startswith("InvalidInstanceType"):
        yield wrong(f"INSTANCE_TYPE: {reply.message}", "set it to instance types that this region has")
        return
    cpus = {t["InstanceType"]: t["VCpuInfo"]["DefaultVCpus"] for t in reply.content.get("InstanceTypes", [])}
    if types[0] not in cpus:
        yield unknown(
            "the instance quota",
            reply.message or reply.code or f"EC2 does not say how many vCPUs {types[0]} has",
        )
        return
    for market in {"on-demand", settings.market}:
        yield check_quota_of(quotas, types[0], cpus[types[0]], market, settings.max_instances)


def check_quota_of(quotas: Client, instance_type: str, cpus: int, market: str, instances: int) -> Finding:
    letters = re.match(r"[a-z]*", instance_type)
    code = QUOTAS.get((FAMILIES.get(letters[0] if letters else "", ""), market))
    if not code:
        return unknown("the instance quota", f"the quota code for {instance_type} is not known")
    reply = attempt(quotas.get_service_quota, ServiceCode="ec2", QuotaCode=code)
    if reply.code:
        return unknown(f"the quota of {market} instances", reply.message or reply.code)
    quota, needed = reply.content["Quota"]["Value"], cpus * instances
    if quota >= needed:
        return ok(f"quota: {quota:.0f} vCPUs {market}, {needed} for {instances} {instance_type}")
    return wrong(
        f"the account's quota is {quota:.0f} vCPUs {market}, but {instances} {instance_type} (MAX_INSTANCES)"
        f" need {needed}",
        (f"set MAX_INSTANCES={int(quota // cpus)}, or " if quota >= cpus else "")
        + "ask for more: `aws service-quotas"
        f" request-service-quota-increase --service-code ec2 --quota-code {code} --desired-value {needed}`",
    )
