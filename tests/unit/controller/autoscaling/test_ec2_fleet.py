import base64
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from cloud.errors import CloudError
from controller.autoscaling.ec2_fleet import NAMED_AT_ONCE, Fleet, Instance, NoCapacity
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan

GONE = "i-0123456789abcdef0"
TOKEN = "0" * 32


@pytest.fixture
def fleet(aws) -> Fleet:
    return Fleet(aws.ec2, "state", "worker", plan())


@pytest.fixture
def launches(aws, on_call):
    """What each RunInstances asked for."""
    asked = []
    on_call(aws.ec2, "RunInstances", lambda params: asked.append(dict(params)))
    return asked


def names(fleet):
    return sorted(i.name for i in fleet.instances() if i.active)


def test_a_launch_is_one_call_that_says_all(clients):
    fleet = Fleet(
        clients.ec2,
        "state",
        "worker",
        plan(
            instance_profile="worker-profile",
            key_name="my-key",
            security_group_ids=["sg-1", "sg-2"],
            subnet_ids=["subnet-1"],
        ),
    )
    tags = [
        {"Key": "Name", "Value": "worker"},
        {"Key": "fleet", "Value": "state"},
        {"Key": "request", "Value": "abc"},
        {"Key": "settings", "Value": fleet.plan.fingerprint},
    ]
    with Stubber(clients.ec2) as ec2:
        ec2.add_response(
            "run_instances",
            {"Instances": [{"InstanceId": "i-1"}, {"InstanceId": "i-2"}]},
            {
                "MinCount": 1,
                "MaxCount": 3,
                "ClientToken": f"{TOKEN}-0",
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": tags},
                    {"ResourceType": "volume", "Tags": tags},
                ],
                "ImageId": "ami-12c6146b",
                "InstanceType": "c7i.large",
                "UserData": ANY,
                "InstanceInitiatedShutdownBehavior": "terminate",
                "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
                "SubnetId": "subnet-1",
                "SecurityGroupIds": ["sg-1", "sg-2"],
                "IamInstanceProfile": {"Name": "worker-profile"},
                "KeyName": "my-key",
            },
        )
        assert fleet.launch(3, "abc", TOKEN) == ["i-1", "i-2"], "EC2 may launch fewer than it was asked for"


def test_what_is_not_set_is_not_sent(fleet, launches):
    fleet.launch(1, "abc", TOKEN)
    optional = {
        "SubnetId",
        "SecurityGroupIds",
        "IamInstanceProfile",
        "KeyName",
        "InstanceMarketOptions",
        "LaunchTemplate",
    }
    assert not optional & launches[0].keys()


def test_a_launch_template_adds_what_is_not_said_here(aws, launches):
    aws.ec2.create_launch_template(
        LaunchTemplateName="worker", LaunchTemplateData={"KeyName": "my-key", "InstanceType": "t3.small"}
    )
    [instance_id] = Fleet(aws.ec2, "state", "worker", plan(launch_template="worker")).launch(1, "r", TOKEN)
    assert launches[0]["LaunchTemplate"] == {"LaunchTemplateName": "worker", "Version": "$Default"}
    found = aws.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    assert (found["KeyName"], found["InstanceType"]) == ("my-key", "c7i.large")


def test_an_instance_runs_its_user_data(fleet, aws):
    (instance_id,) = fleet.launch(1, "abc", TOKEN)
    found = aws.ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    assert base64.b64decode(found["UserData"]["Value"]).decode() == "#!/bin/bash\necho é\n"


def test_a_launched_instance_is_listed_with_the_request_that_it_is_for(fleet):
    (instance_id,) = fleet.launch(1, "abc", TOKEN)
    (instance,) = fleet.instances()
    assert instance.instance_id == instance_id
    assert (instance.request_id, instance.instance_type, instance.market) == ("abc", "c7i.large", "on-demand")
    assert instance.active
    assert abs(datetime.now(UTC) - instance.launched_at) < timedelta(minutes=1)


def test_a_terminated_instance_is_listed_but_not_active(fleet):
    kept, ended = fleet.launch(2, "abc", TOKEN)
    fleet.terminate([ended])
    assert {i.instance_id: i.active for i in fleet.instances()} == {kept: True, ended: False}


def test_instances_of_other_fleets_are_none_of_our_business(fleet, aws):
    Fleet(aws.ec2, "other-state", "worker", plan()).launch(2, "abc", TOKEN)
    aws.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    assert fleet.instances() == []


def test_workers_that_get_another_name_stay_in_the_fleet(fleet, aws):
    fleet.number([], fleet.launch(2, "abc", TOKEN))
    renamed = Fleet(aws.ec2, "state", "cat", plan())
    renamed.number(renamed.instances())
    assert names(fleet) == ["cat-1", "cat-2"]


def described(instance_id: str, minute: int) -> dict:
    return {
        "InstanceId": instance_id,
        "State": {"Name": "running"},
        "InstanceType": "c7i.large",
        "LaunchTime": datetime(2026, 1, 1, 0, minute, tzinfo=UTC),
        "StateReason": {"Code": "Server.SpotInstanceTermination"},
        "InstanceLifecycle": "spot",
    }


def test_a_fleet_of_more_than_a_page_is_listed_whole(clients):
    with Stubber(clients.ec2) as ec2:
        first, second = [{"Instances": [described(i, 1)]} for i in ("i-1", "i-2")]
        ec2.add_response("describe_instances", {"Reservations": [first], "NextToken": "more"})
        ec2.add_response("describe_instances", {"Reservations": [second]})
        found = Fleet(clients.ec2, "state", "worker", plan()).instances()
    assert [i.instance_id for i in found] == ["i-1", "i-2"]


def test_the_oldest_instances_come_first(clients):
    reservations = [
        {"Instances": [described("i-b", 5), described("i-a", 5)]},
        {"Instances": [described("i-c", 1)]},
    ]
    with Stubber(clients.ec2) as ec2:
        ec2.add_response("describe_instances", {"Reservations": reservations})
        found = Fleet(clients.ec2, "state", "worker", plan()).instances()
    assert [i.instance_id for i in found] == ["i-c", "i-a", "i-b"]
    assert {(i.market, i.reason, i.name, i.request_id) for i in found} == {
        ("spot", "Server.SpotInstanceTermination", "", "")
    }


def test_without_capacity_the_next_type_and_then_the_next_subnet_is_tried(aws, on_call):
    choices = plan(instance_types=["a.big", "b.big"], subnet_ids=["s-1", "s-2"])
    fleet = Fleet(aws.ec2, "state", "worker", choices)
    asked = []

    def refuse(params):
        asked.append((params["InstanceType"], params["SubnetId"]))
        if len(asked) < 4:
            raise refusal("InsufficientInstanceCapacity")
        del params["SubnetId"]  # which moto does not have

    on_call(aws.ec2, "RunInstances", refuse)
    assert len(fleet.launch(1, "abc", TOKEN)) == 1
    assert asked == [("a.big", "s-1"), ("a.big", "s-2"), ("b.big", "s-1"), ("b.big", "s-2")]


def test_spot_falls_back_to_on_demand(aws, on_call):
    fleet = Fleet(aws.ec2, "state", "worker", plan(market="spot"))
    markets = []

    def refuse(params):
        markets.append(params.get("InstanceMarketOptions"))
        if markets[-1]:
            raise refusal("MaxSpotInstanceCountExceeded")

    on_call(aws.ec2, "RunInstances", refuse)
    fleet.launch(1, "abc", TOKEN)
    assert markets == [{"MarketType": "spot"}, None]


def test_spot_is_what_is_launched_where_there_is_some(aws):
    fleet = Fleet(aws.ec2, "state", "worker", plan(market="spot"))
    fleet.launch(1, "abc", TOKEN)
    assert [i.market for i in fleet.instances()] == ["spot"]


def test_each_choice_has_a_client_token_of_its_own(aws, on_call):
    """The same token with other parameters would be refused: IdempotentParameterMismatch."""
    fleet = Fleet(aws.ec2, "state", "worker", plan(market="spot", instance_types=["a.big", "b.big"]))
    tokens = []

    def refuse(params):
        tokens.append(params["ClientToken"])
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    with pytest.raises(NoCapacity):
        fleet.launch(1, "abc", TOKEN)
    assert len(set(tokens)) == 4
    assert all(len(token) <= 64 for token in tokens)


@pytest.mark.parametrize(
    "code",
    ["InsufficientInstanceCapacity", "VcpuLimitExceeded", "InstanceLimitExceeded"],
)
def test_no_capacity_at_all_is_told_with_awss_reason(fleet, aws, on_call, code):
    def refuse(params):
        raise refusal(code)

    on_call(aws.ec2, "RunInstances", refuse)
    with pytest.raises(
        NoCapacity, match=rf"could not launch 2 on-demand c7i.large .*{code} says AWS"
    ) as raised:
        fleet.launch(2, "abc", TOKEN)
    assert raised.value.code == code


def test_a_launch_that_is_wrong_is_not_tried_with_the_next_type(aws, on_call):
    fleet = Fleet(aws.ec2, "state", "worker", plan(instance_types=["a.big", "b.big"]))
    asked = []

    def refuse(params):
        asked.append(params["InstanceType"])
        raise refusal("InvalidAMIID.NotFound")

    on_call(aws.ec2, "RunInstances", refuse)
    with pytest.raises(CloudError, match=r"InvalidAMIID\.NotFound") as raised:
        fleet.launch(1, "abc", TOKEN)
    assert not isinstance(raised.value, NoCapacity)
    assert asked == ["a.big"]


def test_instances_get_the_lowest_free_numbers(fleet):
    fleet.number([], fleet.launch(3, "abc", TOKEN))
    assert names(fleet) == ["worker-1", "worker-2", "worker-3"]
    second = next(i.instance_id for i in fleet.instances() if i.name == "worker-2")
    fleet.terminate([second])
    fleet.number(fleet.instances(), fleet.launch(2, "abc", TOKEN))
    assert names(fleet) == ["worker-1", "worker-2", "worker-3", "worker-4"]


def test_instances_whose_launcher_died_are_numbered_by_the_next_look(fleet):
    fleet.launch(2, "abc", TOKEN)
    assert names(fleet) == ["worker", "worker"]
    fleet.number(fleet.instances())
    assert names(fleet) == ["worker-1", "worker-2"]


def test_numbering_the_numbered_is_no_call(fleet, aws, on_call):
    fleet.number([], fleet.launch(2, "abc", TOKEN))
    on_call(aws.ec2, "CreateTags", lambda params: pytest.fail("named again"))
    fleet.number(fleet.instances())


def test_a_name_that_only_looks_like_ours_is_no_number(aws):
    def instance(instance_id, name):
        return Instance(instance_id, name, "running", "c7i.large", "on-demand", datetime.now(UTC), "", "")

    fleet = Fleet(aws.ec2, "state", "w.1", plan())
    made = fleet.launch(3, "abc", TOKEN)
    given = [instance(i, name) for i, name in zip(made, ["wx1-1", "w.1-1x", "w.1-2"], strict=True)]
    fleet.number(given)
    found = {i.instance_id: i.name for i in fleet.instances()}
    assert [found[i] for i in made[:2]] == ["w.1-1", "w.1-3"]


def test_numbers_stay_unique_over_many_launches_and_ends(fleet):
    for _ in range(4):
        fleet.number(fleet.instances(), fleet.launch(3, "abc", TOKEN))
        active = [i for i in fleet.instances() if i.active]
        assert not [name for name, count in Counter(i.name for i in active).items() if count > 1]
        assert all(re.fullmatch(r"worker-\d+", i.name) for i in active)
        fleet.terminate([i.instance_id for i in active[:2]])


def test_ec2_that_does_not_answer_is_a_cloud_error(fleet, aws, on_call):
    def refuse(params):
        raise refusal("UnauthorizedOperation", "DescribeInstances")

    on_call(aws.ec2, "DescribeInstances", refuse)
    with pytest.raises(CloudError, match=r"could not list the worker instances: .*UnauthorizedOperation"):
        fleet.instances()


def test_one_instance_that_ec2_does_not_let_go_holds_none_of_the_others(fleet, aws, caplog):
    first, protected, last = fleet.launch(3, "abc", TOKEN)
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    assert fleet.terminate([first, protected, last, GONE]) == ([first, last], [protected])
    assert [i.instance_id for i in fleet.instances() if i.active] == [protected]
    assert f"could not terminate {protected}" in caplog.text
    assert "could not terminate i-0123456789abcdef0" in caplog.text


def test_terminating_is_one_call_for_all(fleet, aws, on_call):
    calls = []
    on_call(aws.ec2, "TerminateInstances", lambda params: calls.append(len(params["InstanceIds"])))
    launched = fleet.launch(3, "abc", TOKEN)
    assert fleet.terminate(launched) == (launched, [])
    assert calls == [3]


@pytest.mark.parametrize(
    "trouble",
    [
        EndpointConnectionError(endpoint_url="https://ec2.amazonaws.com"),
        refusal("RequestLimitExceeded", "TerminateInstances"),
    ],
)
def test_an_ec2_in_trouble_is_asked_once(fleet, aws, on_call, trouble):
    calls = []

    def refuse(params):
        calls.append(1)
        raise trouble

    on_call(aws.ec2, "TerminateInstances", refuse)
    with pytest.raises(CloudError, match="could not terminate i-1, i-2"):
        fleet.terminate(["i-1", "i-2"])
    assert len(calls) == 1


def test_naming_a_hundred_instances_takes_a_few_calls_of_a_run(fleet, aws, on_call):
    calls = []
    on_call(aws.ec2, "CreateTags", lambda params: calls.append(params["Resources"]))
    fleet.launch(100, "abc", TOKEN)
    for runs in range(1, 6):
        fleet.number(fleet.instances())
        assert len(calls) <= NAMED_AT_ONCE * runs
    for _ in range(100 // NAMED_AT_ONCE):
        fleet.number(fleet.instances())
    assert names(fleet) == sorted(f"worker-{n}" for n in range(1, 101))
    assert len(calls) == 100


def test_slow_naming_does_not_hold_up_the_lease(fleet, aws, on_call):
    left = [True, True, False]
    calls = []
    on_call(aws.ec2, "CreateTags", lambda params: calls.append(1))
    fleet.launch(10, "abc", TOKEN)
    fleet.number(fleet.instances(), may_name=lambda: left.pop(0))
    assert len(calls) == 2
