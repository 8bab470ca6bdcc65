"""deploy/terraform from start to end: it is applied, it runs, nobody may more than he needs, it goes away."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from bench.photos import PHOTOS
from cloud.provision import provision
from cloud.settings import ControllerSettings
from local.driver import ROOT, eventually
from tests.support.iam import Need, refused, s3_needs, sqs_needs, unused
from tests.support.plan import Call, Plan, planned

ACCOUNT, REGION = "123456789012", "us-east-1"
PRESENT = ("pending", "running", "stopping", "shutting-down")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """Applied, with a bucket of the user beside it that batches may read."""
    with planned(tmp_path_factory.mktemp("plan")) as plan:
        plan.client("s3").create_bucket(Bucket="photos")
        plan.client("s3").put_object(Bucket="photos", Key="zoo/cat.jpg", Body=PHOTOS["cat"][0])
        plan.init()
        plan.terraform("apply", "-auto-approve")
        yield plan


def snapshot(plan: Plan, settings: ControllerSettings) -> Any:
    """All that S3 and SQS say of buckets and queues, but for names and times."""
    s3, sqs = plan.client("s3"), plan.client("sqs")
    names = {
        settings.input_bucket: "INPUT",
        settings.output_bucket: "OUTPUT",
        settings.state_bucket: "STATE",
        settings.request_queue: "QUEUE",
    }
    seen: dict[str, Any] = {}
    for bucket in settings.buckets:
        for what in (
            "bucket_encryption",
            "bucket_lifecycle_configuration",
            "public_access_block",
            "bucket_versioning",
        ):
            reply = getattr(s3, f"get_{what}")(Bucket=bucket)
            seen[f"{bucket} {what}"] = {k: v for k, v in reply.items() if k != "ResponseMetadata"}
        seen[f"{bucket} policy"] = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    for queue in queues_of(settings):
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        seen[queue] = {k: v for k, v in found.items() if "Timestamp" not in k}
        seen[queue]["Policy"] = json.loads(found["Policy"])
    text = json.dumps(seen, sort_keys=True)
    for name, place in names.items():
        text = text.replace(name, place)
    return json.loads(text)


def queues_of(settings: ControllerSettings) -> list[str]:
    return [settings.request_queue + suffix for suffix in ("", "-dead", "-batches")]


def applied_settings(plan: Plan) -> ControllerSettings:
    return ControllerSettings(**{name.lower(): value for name, value in plan.settings().items()})


def post(plan: Plan, *files: tuple[str, bytes]) -> Any:
    parts = [("image_file", file) for file in files]
    reply = requests.post(f"http://127.0.0.1:{plan.port}/", files=parts, timeout=120)
    assert reply.ok, reply.text
    return reply.json()


def post_async(page: str, **more: Any) -> str:
    """The path under which the answers will be."""
    headers = {"Prefer": "respond-async", **more.pop("headers", {})}
    reply = requests.post(f"{page}/", headers=headers, timeout=30, **more)
    assert reply.status_code == 202, reply.text
    return reply.headers["Location"]


def settled(address: str) -> Any:
    """The answer, once it is complete."""
    return eventually(lambda: (found := requests.get(address, timeout=10).json())["complete"] and found, 120)


def workers(plan: Plan, *states: str) -> list[dict[str, Any]]:
    filters = [
        {"Name": "tag:fleet", "Values": [applied_settings(plan).state_bucket]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
    found = plan.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def test_the_plan_is_formatted_and_valid(plan: Plan):
    plan.terraform("fmt", "-check", "-diff")
    plan.terraform("validate")


def test_a_second_plan_finds_no_change(plan: Plan):
    assert "No changes." in plan.terraform("plan", "-detailed-exitcode")


def test_provision_and_the_plan_agree(plan: Plan):
    settings = applied_settings(plan)
    other = settings.model_copy(
        update={
            "input_bucket": "other-in",
            "output_bucket": "other-out",
            "state_bucket": "other-state",
            "request_queue": "other",
        }
    )
    s3, sqs = plan.client("s3"), plan.client("sqs")
    provision(s3, sqs, other)
    made = snapshot(plan, settings)
    assert made == snapshot(plan, other)
    provision(s3, sqs, settings)
    assert made == snapshot(plan, settings)
    for bucket in other.buckets:
        s3.delete_bucket(Bucket=bucket)
    for queue in queues_of(other):
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"])


def test_only_the_web_ports_of_the_controller_are_open(plan: Plan):
    groups = plan.client("ec2").describe_security_groups()["SecurityGroups"]
    rules = {g["GroupName"]: g["IpPermissions"] for g in groups if g["GroupName"] != "default"}
    assert sorted(rule["FromPort"] for rule in rules["image-classifier-controller"]) == [80, 443]
    assert all(rule["FromPort"] == rule["ToPort"] for rule in rules["image-classifier-controller"])
    assert rules["image-classifier-worker"] == []


def test_instances_reach_only_web_ports(plan: Plan):
    groups = plan.client("ec2").describe_security_groups()["SecurityGroups"]
    ports = {g["GroupName"]: sorted(p.get("FromPort", 0) for p in g["IpPermissionsEgress"]) for g in groups}
    assert ports["image-classifier-controller"] == [80, 443]
    assert ports["image-classifier-worker"] == [443]


def test_the_variables_become_settings_and_change_no_machine(plan: Plan):
    """The controller reads them when it starts again."""
    assert {"ENGINE": "openvino", "PRECISION": "auto"}.items() <= plan.settings().items()
    given = {"engine": "torch", "precision": "bf16", "request_timeout": "60", "metrics_port": "9100"}
    arguments = [f"-var={name}={value}" for name, value in given.items()]
    changed = plan.terraform("plan", *arguments, right=(0, 2))
    for name, value in given.items():
        assert f"{name.upper()}='{value}'" in changed
    assert "aws_ssm_parameter.settings will be updated in-place" in changed
    assert "aws_security_group.worker will be updated in-place" in changed
    assert "aws_security_group.controller will be updated in-place" in changed, "to read metrics of workers"
    assert "Plan: 0 to add, 3 to change, 0 to destroy." in changed


def test_the_disk_of_the_controller_can_be_larger(plan: Plan):
    changed = plan.terraform("plan", "-var=controller_disk=93", right=(0, 2))
    assert "aws_instance.controller will be updated in-place" in changed
    assert "volume_size = 24 -> 93" in " ".join(changed.split())


def test_with_a_topic_the_controller_may_tell_it_and_is_told_which_it_is(plan: Plan):
    topic = "arn:aws:sns:us-east-1:123456789012:done"
    changed = plan.terraform("plan", f"-var=notify_topic={topic}", right=(2, 0))
    assert "aws_iam_role_policy.notices[0] will be created" in changed
    assert f"NOTIFY_TOPIC='{topic}'" in changed
    plan.terraform("plan", f"-var=notify_topic={topic}.fifo", right=(1,))


def test_the_doctor_finds_nothing_wrong(plan: Plan):
    environment = plan.environment | plan.settings()
    command = [sys.executable, "-m", "deploy.doctor"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "launch: c7i.large, on-demand" in done.stdout


def test_the_applied_controller_and_its_workers_answer(plan: Plan):
    """The controller is the plan's own instance, which runs its own user data."""
    page = f"http://127.0.0.1:{plan.port}"
    eventually(lambda: reachable(f"{page}/readyz"), 60)
    files = [("image_file", (f"{name}.jpg", data)) for name, (data, _) in PHOTOS.items()]
    address = page + post_async(page, files=files)
    [worker] = eventually(lambda: workers(plan, "pending", "running"), 30)
    assert worker["IamInstanceProfile"]["Arn"].endswith("/image-classifier-worker")
    answer = settled(address)
    assert [image["label"] in PHOTOS[image["filename"][:-4]][1] for image in answer["images"]] == [True] * 4
    eventually(lambda: not workers(plan, *PRESENT), 60)


def reachable(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


# Permissions


@pytest.fixture(scope="module")
def busy(plan: Plan) -> Plan:
    """After all that controller and workers do, also when things go wrong."""
    eventually(lambda: reachable(f"http://127.0.0.1:{plan.port}/readyz"), 60)
    settings, sqs = applied_settings(plan), plan.client("sqs")
    queue = sqs.get_queue_url(QueueName=settings.request_queue)["QueueUrl"]
    eventually(lambda: not workers(plan, *PRESENT), 60)

    # Workers that never get ready: the controller gives up and takes the messages back. One is nobody's.
    broken = plan.folder / "broken"
    broken.mkdir()
    bend(plan.app, broken)
    sqs.send_message(QueueUrl=queue, MessageBody="nobody's")
    sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)  # as if a worker had died with it
    page = f"http://127.0.0.1:{plan.port}"
    failed = post(plan, ("cat.jpg", fresh(PHOTOS["cat"][0])))
    assert failed["images"][0]["error"]["code"] == "no_workers"
    bend(plan.app, ROOT)

    # It is tried again until the controller launches again, and somebody looks at it.
    def is_classified() -> bool:
        requests.post(f"{page}{failed['url']}/retry", timeout=30).raise_for_status()
        return bool(settled(page + failed["url"])["counts"]["classified"])

    eventually(is_classified, 60, every=2)
    requests.get(f"{page}{failed['url']}/images/0000-cat.jpg", timeout=30).raise_for_status()
    eventually(lambda: not workers(plan, *PRESENT), 60)

    # An image that was tried too often: SQS moves its message to the dead letters, which here the test does.
    capacity(plan, settings, 0)
    place = post_async(page, files={"image_file": ("cat.jpg", fresh(PHOTOS["cat"][0]))})
    request_id = place.rpartition("/")[2]
    eventually(lambda: any(body.startswith(request_id) for body in move_to_dead_letters(sqs, queue)))
    settled(page + place)

    # One that is sent with an Idempotency-Key, and cancelled.
    files = {"image_file": ("cat.jpg", fresh(PHOTOS["cat"][0]))}
    place = post_async(page, files=files, headers={"Idempotency-Key": "once"})
    requests.post(f"{page}{place}/cancel", timeout=30).raise_for_status()
    capacity(plan, settings, None)

    # A worker was stopped, and seems to be of other settings than those of now: it is terminated.
    [stopped] = workers(plan, "stopped")
    tags = [{"Key": "settings", "Value": "of an earlier plan"}]
    plan.client("ec2").create_tags(Resources=[stopped["InstanceId"]], Tags=tags)

    # Photos that take longer than the visibility timeout allows. One of their workers is told to end.
    large = large_png()
    place = post_async(page, files=[("image_file", (f"{n}.png", fresh(large))) for n in range(36)])
    eventually(lambda: in_flight(sqs, queue) >= 10, 60)
    plan.client("ec2").terminate_instances(InstanceIds=[workers(plan, "running")[0]["InstanceId"]])
    assert {image["status"] for image in settled(page + place)["images"]} == {"classified"}
    eventually(lambda: not workers(plan, *PRESENT), 60)
    eventually(
        lambda: any(c.operation == "DeleteObject" and "/workers/" in c.path for c in plan.endpoint.calls), 60
    )
    run_batches(plan, page)
    return plan


def run_batches(plan: Plan, page: str) -> None:
    """Runs a batch whose worker is told to end, tries what failed in it again, and cancels another one."""
    s3, sqs = plan.client("s3"), plan.client("sqs")
    slices = sqs.get_queue_url(QueueName=f"{applied_settings(plan).request_queue}-batches")["QueueUrl"]
    large = large_png()
    for n in range(12):
        s3.put_object(Bucket="photos", Key=f"zoo/{n}.png", Body=large)
    s3.put_object(Bucket="photos", Key="zoo/old.jpg", Body=PHOTOS["cat"][0], StorageClass="GLACIER")
    place = ask_for_batch(page)
    # As if a worker had died with a slice: the next one divides it.
    eventually(lambda: "Messages" in sqs.receive_message(QueueUrl=slices, VisibilityTimeout=0))
    eventually(lambda: in_flight(sqs, slices), 60)
    time.sleep(1)  # the worker has begun to classify
    plan.client("ec2").terminate_instances(InstanceIds=[workers(plan, "running")[0]["InstanceId"]])
    found = settled(page + place)
    assert (found["classified"], found["failed"]) == (13, 1)
    image = requests.get(f"{page}{place}/images", params={"key": "zoo/cat.jpg"}, timeout=10)
    assert image.content == PHOTOS["cat"][0]
    s3.put_object(Bucket="photos", Key="zoo/old.jpg", Body=PHOTOS["cat"][0])
    requests.post(f"{page}{place}/retry", timeout=30).raise_for_status()
    assert settled(page + place)["classified"] == 14
    requests.post(f"{page}{ask_for_batch(page)}/cancel", timeout=30).raise_for_status()
    eventually(lambda: not workers(plan, *PRESENT), 60)


def ask_for_batch(page: str) -> str:
    """The path under which it is."""
    reply = requests.post(f"{page}/batches", json={"source": "s3://photos/zoo/"}, timeout=30)
    assert reply.status_code == 202, reply.text
    return reply.headers["Location"]


def capacity(plan: Plan, settings: ControllerSettings, available: int | None) -> None:
    for instance_type in settings.instance_type:
        plan.endpoint.instances.limit(instance_type, None, available)


def in_flight(sqs: Any, queue: str) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"]
    return int(found[name])


def move_to_dead_letters(sqs: Any, queue: str) -> list[str]:
    """Up to 10 messages; their bodies."""
    reply = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    for message in reply.get("Messages", []):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        sqs.send_message(QueueUrl=f"{queue}-dead", MessageBody=message["Body"])
    return [message["Body"] for message in reply.get("Messages", [])]


def bend(link: Path, target: Path) -> None:
    link.unlink()
    link.symlink_to(target)


def fresh(photo: bytes) -> bytes:
    """The same picture, but none that the answer cache knows."""
    return photo + secrets.token_bytes(8)


def large_png() -> bytes:
    with Image.open(BytesIO(PHOTOS["cat"][0])) as photo:
        stream = BytesIO()
        photo.resize((9000, 6000), Image.Resampling.NEAREST).save(stream, "PNG", compress_level=1)
        return stream.getvalue()


@pytest.mark.parametrize("tier", ["controller", "worker"])
def test_a_role_may_do_what_its_tier_does_and_nothing_more(busy: Plan, tier: str):
    role = f"image-classifier-{tier}"
    policy = policy_of(busy, role)
    needs = [need for call in calls_of(busy, role) for need in needs_of(busy, call)]
    assert refused(policy, needs) == []
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:image-classifier-requests-batches"
    later = [("sqs:GetQueueAttributes", queue)] if tier == "controller" else []
    assert set(unused(policy, needs)) <= set(later), "slices are counted after a minute without a new row"


def policy_of(plan: Plan, role: str) -> dict[str, Any]:
    """All that the role's policies say, as one."""
    iam = plan.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    return {"Statement": [statement for document in documents for statement in document["Statement"]]}


def calls_of(plan: Plan, role: str) -> list[Call]:
    """Workers carry the fleet's tag. (moto forgets the instance profile of a terminated one.)"""
    reservations = plan.client("ec2").describe_instances()["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    fleet = {i["InstanceId"] for i in instances if "fleet" in {tag["Key"] for tag in i["Tags"]}}
    others = {i["InstanceId"] for i in instances} - fleet
    keys = {plan.endpoint.key.of_instance(i).id for i in (fleet if role.endswith("worker") else others)}
    calls = [call for call in plan.endpoint.calls if call.caller in keys]
    assert calls
    return calls


def needs_of(plan: Plan, call: Call) -> list[Need]:
    match call.service:
        case "s3":
            bucket, _, key = call.path.lstrip("/").partition("/")
            return s3_needs(call.operation, bucket, key, call.if_none_match)
        case "sqs":
            asked = call.parameters
            name = asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2]
            return sqs_needs(call.operation, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
        case "ssm":
            parameters = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
            return [Need(f"ssm:{call.operation}", parameters + name) for name in call.parameters["Names"]]
        case "ec2":
            return ec2_needs(plan, call)
    raise NotImplementedError(call)


def arn(resource: str) -> str:
    return f"arn:aws:ec2:{REGION}:{'' if resource.startswith('image/') else ACCOUNT}:{resource}"


def ec2_needs(plan: Plan, call: Call) -> list[Need]:
    action, asked = f"ec2:{call.operation}", call.parameters
    match call.operation:
        case "DescribeInstances":
            return [Need(action, "*")]
        case "RunInstances":
            return launch_needs(plan, asked)
        case "TerminateInstances" | "StopInstances" | "StartInstances":
            ids = [value for name, value in asked.items() if name.startswith("InstanceId.")]
            return [
                Need(action, arn(f"instance/{i}"), {"aws:ResourceTag/fleet": fleet_of(plan, i)}) for i in ids
            ]
        case "CreateTags":
            instance_id = asked["ResourceId.1"]
            keys = [
                value for name, value in asked.items() if name.startswith("Tag.") and name.endswith(".Key")
            ]
            context = {"aws:ResourceTag/fleet": fleet_of(plan, instance_id), "aws:TagKeys": ",".join(keys)}
            return [Need(action, arn(f"instance/{instance_id}"), context)]
    raise NotImplementedError(call)


def fleet_of(plan: Plan, instance_id: str) -> str:
    [reservation] = plan.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"]
    return {t["Key"]: t["Value"] for t in reservation["Instances"][0]["Tags"]}.get("fleet", "")


def launch_needs(plan: Plan, asked: dict[str, str]) -> list[Need]:
    """All that RunInstances touches; tags are given in the same order to instance and volume."""
    ec2 = plan.client("ec2")
    name = asked["LaunchTemplate.LaunchTemplateName"]
    [version] = ec2.describe_launch_template_versions(LaunchTemplateName=name)["LaunchTemplateVersions"]
    template = version["LaunchTemplateData"]
    tags = {
        asked[f"TagSpecification.1.Tag.{n}.Key"]: asked[f"TagSpecification.1.Tag.{n}.Value"]
        for n in (1, 2, 3)
    }
    profile = template["IamInstanceProfile"]["Name"]
    [role] = plan.client("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    tagged = {"aws:RequestTag/fleet": tags["fleet"]}
    instance = {
        **tagged,
        "ec2:InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}",
        "ec2:InstanceType": asked["InstanceType"],
        "ec2:MetadataHttpTokens": template["MetadataOptions"]["HttpTokens"],
        "ec2:Tenancy": "default",
    }
    tagging = {**tagged, "ec2:CreateAction": "RunInstances", "aws:TagKeys": ",".join(tags)}
    used = [
        f"image/{asked['ImageId']}",
        f"launch-template/{version['LaunchTemplateId']}",
        *(f"security-group/{group}" for group in template["SecurityGroupIds"]),
        "network-interface/*",
        *([f"key-pair/{template['KeyName']}"] if "KeyName" in template else []),
    ]
    return [
        Need("ec2:RunInstances", arn("instance/*"), instance),
        Need("ec2:RunInstances", arn("volume/*"), tagged),
        Need("ec2:RunInstances", arn(f"subnet/{asked['SubnetId']}"), {"ec2:SubnetID": asked["SubnetId"]}),
        *(Need("ec2:RunInstances", arn(resource)) for resource in used),
        *(Need("ec2:CreateTags", arn(f"{made}/*"), tagging) for made in ("instance", "volume")),
        Need("iam:PassRole", role["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"}),
    ]


@pytest.mark.parametrize("tier", ["controller", "worker"])
def test_both_tiers_may_read_weights_and_labels_that_lie_in_s3(plan: Plan, tier: str):
    """The controller reads their ETags: without that, no answer would come from the cache."""
    variables = ("-var=weights=s3://models/a.pt", "-var=labels=s3://models/a.txt")
    planned = plan.terraform("plan", *variables, right=(0, 2))
    for name in ("weights", "labels"):
        assert f'aws_iam_role_policy.{name}["{tier}"] will be created' in planned
    assert "arn:aws:s3:::models/a.pt" in planned
    assert "arn:aws:s3:::models/a.txt" in planned


def test_the_sources_are_what_both_tiers_may_read_and_without_them_there_is_nothing_for_batches(plan: Plan):
    sources = '-var=batch_sources=["s3://photos/pets", "s3://photos/zoo/", "s3://scans"]'
    changed = plan.terraform("plan", sources, right=(2, 0))
    for resource in ("scans", "photos/pets*", "scans/*"):
        assert changed.count(f'+ "arn:aws:s3:::{resource}"') == 2, "once for each tier"
    assert "BATCH_SOURCES='s3://photos/pets,s3://photos/zoo/,s3://scans'" in changed
    without = plan.terraform("plan", "-var=batch_sources=[]", right=(2, 0))
    for tier in ("controller", "worker"):
        assert f'aws_iam_role_policy.batches["{tier}"] will be destroyed' in without
    assert "aws_sqs_queue.batches[0] will be destroyed" in without


def test_a_source_that_is_none_is_refused(plan: Plan):
    sources = json.dumps(["s3://photos/pets", "s3://photos/a', 'b"])
    plan.terraform("plan", f"-var=batch_sources={sources}", right=(1,))


# The end


def test_destroy_leaves_nothing(plan: Plan):
    """Though the buckets hold what was uploaded and answered."""
    stopped = [worker["InstanceId"] for worker in workers(plan, "stopped")]
    assert len(stopped) <= 1
    plan.terraform("destroy", "-auto-approve", "-target=aws_instance.controller")
    if stopped:
        plan.client("ec2").terminate_instances(InstanceIds=stopped)
    plan.terraform("destroy", "-auto-approve")
    assert [bucket["Name"] for bucket in plan.client("s3").list_buckets()["Buckets"]] == ["photos"], (
        "the user's"
    )
    assert plan.client("sqs").list_queues().get("QueueUrls", []) == []
    assert plan.client("iam").list_roles()["Roles"] == []
    assert plan.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert plan.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"] == []
    ec2 = plan.client("ec2")
    assert {g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"]} == {"default"}
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []
    assert ec2.describe_addresses()["Addresses"] == []
    alive = [{"Name": "instance-state-name", "Values": [*PRESENT, "stopped"]}]
    assert ec2.describe_instances(Filters=alive)["Reservations"] == []
    assert ec2.describe_volumes()["Volumes"] == []
