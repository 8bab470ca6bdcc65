"""Makes the AMI for controller and workers, and prints its id in the last line: `python -m deploy.make_ami`.

This launches an instance of a Linux distribution, runs deploy/ami.sh on it with this code, makes an image of
it, and terminates it. The code and the log are transferred through a bucket, which is deleted at the end, so
the instance needs neither ssh nor a role.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError

from cloud.buckets import bucket_and_key
from cloud.clients import EC2Client, S3Client
from cloud.errors import CloudError, calling
from cloud.settings import SettingsError, WorkerSettings
from controller.autoscaling.user_data import render
from deploy import parcel

HERE = Path(__file__).parent
BASES = {  # the owner of the AMIs and a pattern of their names; all are for x86-64
    "debian": ("136693071363", "debian-13-amd64-*"),
    "ubuntu": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-resolute-26.04-amd64-server-*"),
    "amazon": ("137112412989", "al2023-ami-2023.*-kernel-6.1-x86_64"),
}
NAME = "image-classifier"
READY = "exit status 0"

PAUSE_SECONDS = 5  # between two looks at the instance or the image
LOOKS_AT_INSTANCE, LOOKS_AT_IMAGE = 360, 720  # before it is given up


@dataclass(frozen=True)
class Recipe:
    base: str
    """A key of BASES, or the id of an AMI."""
    instance_type: str
    disk: int
    """The size of the disk in GB."""
    environment: dict[str, str]
    """The environment variables for ami.sh."""
    files: Mapping[str, Path]
    """Files and folders of the user that ami.sh needs, by their names on the instance."""
    subnet: str = ""
    """The id of the instance's subnet, or "" for one of the default VPC."""


class Failed(Exception):
    """ami.sh has failed. The message contains the last lines of its output."""


def make_ami(ec2: EC2Client, s3: S3Client, recipe: Recipe) -> str:
    """Makes an AMI and returns its id.

    The instance and the bucket are deleted even on failure. Only an AMI that EC2 has begun to make remains.
    Raises Failed when ami.sh fails, and CloudError when AWS does.
    """
    base = find_base(ec2, recipe.base)
    say(f"from {base['ImageId']} ({base.get('Name', '')})")
    with (
        parcel.temporary_bucket(s3, f"{NAME}-ami") as bucket,
        instance(ec2, base, recipe, parcel.send(s3, bucket, recipe.files)) as instance_id,
    ):
        say(f"{instance_id} runs deploy/ami.sh, which takes some minutes")
        wait_until_stopped(ec2, instance_id)
        check(parcel.read_log(s3, bucket))
        name = f"{NAME}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        with calling(f"make an image of {instance_id}"):
            image_id = str(ec2.create_image(InstanceId=instance_id, Name=name)["ImageId"])
        say(f"{image_id} ({name}) is being made, which takes some minutes")
        wait_until_available(ec2, image_id)
        return image_id


def find_base(ec2: EC2Client, base: str) -> dict[str, Any]:
    """Returns the newest AMI of that kind, as EC2 describes it. Raises CloudError when there is none."""
    asked: dict[str, Any] = {"ImageIds": [base]}
    if base in BASES:
        owner, name = BASES[base]
        asked = {"Owners": [owner], "Filters": [{"Name": "name", "Values": [name]}]}
    with calling(f"find the image {base}"):
        found = ec2.describe_images(**asked)["Images"]
    if not found:
        raise CloudError(f"there is no image {base} in the region {ec2.meta.region_name}")
    return dict(max(found, key=lambda image: image["CreationDate"]))


@contextmanager
def instance(
    ec2: EC2Client, base: Mapping[str, Any], recipe: Recipe, addresses: Mapping[str, str]
) -> Iterator[str]:
    """Runs an instance for the duration of the block, and yields its id.

    `addresses` are the variables that `parcel.send` returns.
    """
    subnet: Any = {"SubnetId": recipe.subnet} if recipe.subnet else {}
    exports = {f"export {name}": value for name, value in {**recipe.environment, **addresses}.items()}
    with calling(f"launch a {recipe.instance_type} from {base['ImageId']}"):
        disk: Any = {"VolumeSize": recipe.disk, "VolumeType": "gp3", "DeleteOnTermination": True}
        disk["Encrypted"] = True  # and with it the snapshot, and the disks of whatever is launched from it
        [launched] = ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=base["ImageId"],
            InstanceType=recipe.instance_type,  # type: ignore[arg-type]
            InstanceInitiatedShutdownBehavior="stop",
            MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
            BlockDeviceMappings=[{"DeviceName": base["RootDeviceName"], "Ebs": disk}],
            UserData=render((HERE / "ami-userdata.sh").read_text(), exports),
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": f"{NAME}-ami"}]}
            ],
            **subnet,
        )["Instances"]
    try:
        yield launched["InstanceId"]
    finally:
        with calling(f"terminate {launched['InstanceId']}"):
            ec2.terminate_instances(InstanceIds=[launched["InstanceId"]])


def wait_until_stopped(ec2: EC2Client, instance_id: str) -> None:
    """Waits until the instance has stopped. Raises CloudError if it is terminated instead, or takes too long.

    boto3's waiter takes `pending`, which each new instance is, for a failure. It is therefore shown the
    instance only in the states in which the wait ends.
    """
    states = {"Name": "instance-state-name", "Values": ["stopped", "terminated"]}
    with calling(f"wait until {instance_id} is stopped"):
        ec2.get_waiter("instance_stopped").wait(
            Filters=[with_id("instance", instance_id), states],  # type: ignore[list-item]
            WaiterConfig={"Delay": PAUSE_SECONDS, "MaxAttempts": LOOKS_AT_INSTANCE},
        )


def wait_until_available(ec2: EC2Client, image_id: str) -> None:
    """Waits until the image is made. Raises CloudError if it is not, or takes too long."""
    with calling(f"wait until {image_id} is available"):
        ec2.get_waiter("image_available").wait(
            Filters=[with_id("image", image_id)],
            WaiterConfig={"Delay": PAUSE_SECONDS, "MaxAttempts": LOOKS_AT_IMAGE},
        )


def with_id(what: str, value: str) -> Any:
    """Returns a filter for one instance or image. Until EC2 shows it, a filter finds nothing; an id fails."""
    return {"Name": f"{what}-id", "Values": [value]}


def check(log: str) -> None:
    """Prints the end of the log of ami.sh. Raises Failed if ami.sh did not succeed."""
    if not log.rstrip().endswith(READY):
        raise Failed("deploy/ami.sh failed:\n" + "\n".join(log.splitlines()[-30:]))
    say(log.split("== the model")[-1].strip())


@contextmanager
def folder_of(s3: S3Client, photos: str | None) -> Iterator[Path | None]:
    """Yields the folder of the photos, or None if none are given.

    Photos at `s3://bucket/prefix` are downloaded, because the instance has no role with which it could read
    them. Raises CloudError when they cannot be read, or when there are none.
    """
    if not photos or not photos.startswith("s3://"):
        yield Path(photos).resolve() if photos else None
        return
    bucket, prefix = bucket_and_key(s3, photos)
    with tempfile.TemporaryDirectory() as folder:
        for number, key in enumerate(bucket.keys(prefix)):
            (Path(folder) / f"{number}-{Path(key).name}").write_bytes(bucket.read(key)[0])
        if not os.listdir(folder):
            raise CloudError(f"there are no photos at {photos}")
        yield Path(folder)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m deploy.make_ami", description=__doc__)
    add = parser.add_argument
    add("--base", default="debian", help=f"{', '.join(BASES)}, or the id of an AMI (default: debian)")
    add("--instance-type", default="c7i.large", help="the type of the instance (default: c7i.large)")
    disk = "the size of the disk in GB, of which controller_disk of the plan must have 8 more (default: 16)"
    add("--disk", type=int, default=16, help=disk)
    add("--subnet", default="", help="a subnet with public addresses (default: one of the default VPC)")
    add("--model", default="resnet18", help="the value of the setting MODEL (default: resnet18)")
    add("--engine", default="openvino", help="the value of the setting ENGINE (default: openvino)")
    add("--precision", default="auto", help="the value of the setting PRECISION (default: auto)")
    add("--photos", help="a folder or s3://bucket/prefix of photos with which the model is baked")
    add("--weights-file", type=Path, help="a state dict to use instead of the ImageNet weights")
    add("--labels-file", type=Path, help="the class names for the state dict, one per line")
    add("--torch-index-url", help="the package index for torch; for GPUs: https://pypi.org/simple")
    return parser.parse_args()


def recipe_of(given: argparse.Namespace, photos: Path | None) -> Recipe:
    """Returns what the arguments ask for. `photos` is the folder of the photos, if there are any."""
    paths = {"WEIGHTS_FILE": given.weights_file, "LABELS_FILE": given.labels_file, "PHOTOS": photos}
    environment = {name: f"{parcel.GIVEN}/{path.name}" for name, path in paths.items() if path}
    environment |= {"MODEL": given.model, "ENGINE": given.engine, "PRECISION": given.precision}
    if given.torch_index_url:
        environment["TORCH_INDEX_URL"] = given.torch_index_url
    files = {path.name: path for path in paths.values() if path}
    return Recipe(given.base, given.instance_type, given.disk, environment, files, given.subnet)


def tidy_up_on_signals() -> None:
    """Lets SIGTERM, and the end of the terminal, end the program as Ctrl-C does: the instance is terminated.

    After `nohup`, the end of the terminal does nothing.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def main() -> int:
    given = read_arguments()
    try:
        WorkerSettings.without_buckets(model=given.model, engine=given.engine, precision=given.precision)
    except SettingsError as error:
        say(f"make_ami: {error}")
        return 2
    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
    try:
        ec2, s3 = session.client("ec2"), session.client("s3", config=parcel.SIGNED)
        with folder_of(s3, given.photos) as photos:
            print(make_ami(ec2, s3, recipe_of(given, photos)))
    except (BotoCoreError, CloudError, Failed, OSError) as error:
        say(f"make_ami: {error}")
        return 1
    return 0


if __name__ == "__main__":
    tidy_up_on_signals()
    sys.exit(main())
