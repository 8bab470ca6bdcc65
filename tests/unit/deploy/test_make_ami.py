import signal
import tarfile
from functools import partial

import boto3
import pytest
from moto.ec2.models import ec2_backends

from cloud.errors import CloudError
from deploy import make_ami
from deploy.make_ami import BASES, Failed, check, find_base, folder_of, main, read_arguments, recipe_of
from deploy.parcel import SIGNED, pack, send, temporary_bucket
from tests.support.aws_errors import refusal


@pytest.fixture
def images(clients, on_reply):
    """What DescribeImages answers, and what it was asked."""
    answered = []
    on_reply(clients.ec2, "DescribeImages", lambda reply: reply.update(Images=answered))
    return answered


def image(image_id, day):
    return {
        "ImageId": image_id,
        "CreationDate": f"2026-01-{day:02}T00:00:00.000Z",
        "RootDeviceName": "/dev/xvda",
    }


@pytest.mark.parametrize("base", BASES)
def test_the_newest_stock_image_is_the_base(clients, images, on_call, base):
    asked = []
    on_call(clients.ec2, "DescribeImages", lambda params: asked.append(dict(params)))
    images += [image("ami-2", 2), image("ami-3", 3), image("ami-1", 1)]
    assert find_base(clients.ec2, base)["ImageId"] == "ami-3"
    assert asked[0]["Owners"] == [BASES[base][0]], "anybody may call an image so"


def test_a_base_that_is_not_there_is_told_with_its_region(clients, images):
    with pytest.raises(CloudError, match="no image debian in the region us-east-1"):
        find_base(clients.ec2, "debian")
    with pytest.raises(CloudError, match="could not find the image ami-0000"):
        find_base(clients.ec2, "ami-00000000")


def test_the_code_goes_there_with_the_users_files_and_without_state(tmp_path):
    weights = tmp_path / "resnet.pt"
    weights.write_bytes(b"weights")
    with tarfile.open(fileobj=pack({"resnet.pt": weights})) as tar:
        names = tar.getnames()
    assert {"deploy/ami.sh", "worker/__main__.py", "controller/wsgi.py", "cloud/settings.py"} <= set(names)
    assert {"requirements.txt", "worker/requirements.txt", "given/resnet.pt"} <= set(names)
    assert not [name for name in names if ".terraform/" in name or "tfstate" in name or "__pycache__" in name]


def test_the_urls_lead_to_the_region_of_the_bucket(clients):
    s3 = boto3.client("s3", region_name="eu-central-1", config=SIGNED)
    with temporary_bucket(s3, "ami") as bucket:
        for url in send(s3, bucket, {}).values():
            assert url.startswith(f"https://{bucket}.s3.eu-central-1.amazonaws.com/")


def test_what_is_asked_for_reaches_the_script_with_its_files(tmp_path, monkeypatch):
    folder = tmp_path / "birds"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"photo")
    asked = [
        "--model",
        "resnet50",
        "--precision",
        "int8",
        "--photos",
        str(folder),
        "--weights-file",
        "birds.pt",
    ]
    monkeypatch.setattr("sys.argv", ["make_ami", *asked])
    given = read_arguments()
    with folder_of(None, given.photos) as photos:
        recipe = recipe_of(given, photos)
        with tarfile.open(fileobj=pack({"birds": recipe.files["birds"]})) as tar:
            assert tar.extractfile("given/birds/a.jpg").read() == b"photo"
    assert recipe.environment == {
        "MODEL": "resnet50",
        "ENGINE": "openvino",
        "PRECISION": "int8",
        "WEIGHTS_FILE": "given/birds.pt",
        "PHOTOS": "given/birds",
    }


def test_without_photos_none_are_sent(monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_ami"])
    given = read_arguments()
    with folder_of(None, given.photos) as photos:
        recipe = recipe_of(given, photos)
    assert (recipe.files, "PHOTOS" in recipe.environment) == ({}, False)


def test_photos_in_s3_are_fetched_here(clients, inputs):
    inputs.write("photos/2026/a.jpg", b"one")
    inputs.write("photos/2027/a.jpg", b"two")
    inputs.write("notes.txt", b"no photo")
    with folder_of(clients.s3, f"s3://{inputs.name}/photos/") as folder:
        assert sorted(file.read_bytes() for file in folder.iterdir()) == [b"one", b"two"]
    assert not folder.exists()
    none = folder_of(clients.s3, f"s3://{inputs.name}/none/")
    with pytest.raises(CloudError, match="there are no photos at s3://"), none:
        pass


def test_a_failure_is_told_with_the_end_of_what_was_printed(capsys):
    with pytest.raises(Failed, match="No matching distribution"):
        check("== application\nERROR: No matching distribution found\nexit status 1\n")
    check("== the model\ntabby 0.9\nexit status 0\n")
    assert "tabby 0.9" in capsys.readouterr().err


def test_without_a_region_it_says_so(monkeypatch, capsys, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr("sys.argv", ["make_ami"])
    assert main() == 1
    assert "region" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--model", "resnet19"], "MODEL ("),
        (["--engine", "onnx"], "ENGINE ("),
        (["--precision", "int4"], "PRECISION ("),
    ],
)
def test_a_choice_that_no_worker_takes_is_refused_before_an_instance_is_paid_for(
    monkeypatch, capsys, asked, said
):
    monkeypatch.setattr("sys.argv", ["make_ami", *asked])
    monkeypatch.setattr("boto3.session.Session", None)
    assert main() == 2
    assert said in capsys.readouterr().err


def unknown_at_first(id_of_a_call):
    """Returns a handler of calls: EC2 does not know an id when it is asked about it for the first time."""
    asked = []

    def act(params):
        asked.append(params)
        if len(asked) == 1 and id_of_a_call in params:
            raise refusal("InvalidID.NotFound")

    return act


@pytest.fixture
def instance(clients, monkeypatch):
    """An instance of moto, which the test brings into its states."""
    monkeypatch.setattr(make_ami, "PAUSE_SECONDS", 0.01)
    [found] = clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"]
    [backend] = [regions["us-east-1"] for regions in ec2_backends.values()]
    return backend.get_instance(found["InstanceId"])


def test_a_new_instance_is_waited_for_while_it_is_not_shown_yet_or_pending(clients, instance, on_call):
    states = iter([("pending", 0), ("pending", 0), ("running", 16), ("stopping", 64), ("stopped", 80)])

    def go_on(params):
        instance._state.name, instance._state.code = next(states)

    on_call(clients.ec2, "DescribeInstances", unknown_at_first("InstanceIds"))
    on_call(clients.ec2, "DescribeInstances", go_on)
    make_ami.wait_until_stopped(clients.ec2, instance.id)
    assert not list(states)


def test_an_instance_that_ends_without_an_image_is_not_waited_for(clients, instance):
    instance._state.name, instance._state.code = "terminated", 48
    with pytest.raises(CloudError, match=f"could not wait until {instance.id} is stopped"):
        make_ami.wait_until_stopped(clients.ec2, instance.id)


def test_a_new_image_is_waited_for_while_it_is_not_shown_yet(clients, instance, on_call):
    image_id = clients.ec2.create_image(InstanceId=instance.id, Name="new")["ImageId"]
    on_call(clients.ec2, "DescribeImages", unknown_at_first("ImageIds"))
    make_ami.wait_until_available(clients.ec2, image_id)


@pytest.mark.parametrize("subnet", [None, "subnet-1"])
def test_without_a_default_vpc_a_subnet_can_be_given(clients, instance, on_call, monkeypatch, subnet):
    asked = []
    on_call(clients.ec2, "RunInstances", lambda params: asked.append(params.pop("SubnetId", None)))
    monkeypatch.setattr("sys.argv", ["make_ami", *(["--subnet", subnet] if subnet else [])])
    base = {"ImageId": "ami-12c6146b", "RootDeviceName": "/dev/xvda"}
    with make_ami.instance(clients.ec2, base, recipe_of(read_arguments(), None), {}):
        assert asked == [subnet]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_closes_the_terminal_meanwhile_leaves_no_instance(clients, monkeypatch, request, number):
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    make_ami.tidy_up_on_signals()
    base = clients.ec2.register_image(Name="base", RootDeviceName="/dev/xvda")["ImageId"]
    monkeypatch.setattr("sys.argv", ["make_ami", "--base", base])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(make_ami, "wait_until_stopped", lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit):
        main()
    [reservation] = clients.ec2.describe_instances()["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "terminated"
    assert clients.s3.list_buckets()["Buckets"] == []
