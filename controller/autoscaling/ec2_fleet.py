"""The worker instances on EC2. Only this module calls EC2 to list, launch, name, stop and terminate them."""

import hashlib
import logging
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any, Literal, NamedTuple

from cloud.clients import EC2Client
from cloud.errors import CloudError, calling
from controller.autoscaling.launch_errors import NO_CAPACITY, setting_to_blame
from controller.autoscaling.launch_walk import Walk
from controller.autoscaling.scaling import lowest_free_numbers

log = logging.getLogger(__name__)

ACTIVE = {"pending", "running"}
POOLED = {"stopping", "stopped"}
NAMED_AT_ONCE = 10  # each name is a call
UNKNOWN = "InvalidInstanceID.NotFound"  # it is gone, or so new that only a part of EC2 knows it
PROTECTED_OR_GONE = {"OperationNotPermitted", UNKNOWN}
CANNOT_TERMINATE = PROTECTED_OR_GONE | {"UnauthorizedOperation"}
CANNOT_STOP = PROTECTED_OR_GONE | {"IncorrectInstanceState", "UnsupportedOperation"}
CANNOT_START = CANNOT_STOP | NO_CAPACITY


class Outcome(NamedTuple):
    """What became of a request to change the state of some instances.

    There was no time to try the others, or EC2 does not know them, or not yet.
    """

    changed: list[str]
    """The ids of those that EC2 changes."""
    refused: list[str]
    """The ids of those that it does not."""


class NoCapacity(CloudError):
    """EC2 has no such instances available right now, or the account may not have more."""


@dataclass(frozen=True)
class Instance:
    instance_id: str
    name: str
    state: str
    instance_type: str
    market: str
    launched_at: datetime
    request_id: str
    """The request that it was launched for."""
    reason: str
    """EC2's code for the reason of its state."""
    settings: str = ""
    """The fingerprint of the launch plan that it was launched with."""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def pooled(self) -> bool:
        """Whether it is stopped, or will be in a moment."""
        return self.state in POOLED


@dataclass(frozen=True)
class LaunchPlan:
    """The parameters of a launch that do not change."""

    ami_id: str
    instance_types: Sequence[str]
    """The instance types in order of preference. If there is no capacity for one, the next is tried."""
    market: Literal["on-demand", "spot"]
    """That of launches for which nobody asks for another. `spot` falls back to on-demand."""
    subnet_ids: Sequence[str]
    security_group_ids: Sequence[str]
    instance_profile: str
    key_name: str
    user_data: str
    launch_template: str = ""
    """The name of a launch template. The other parameters take precedence over the template's."""

    @property
    def fingerprint(self) -> str:
        """What changes whenever one of the parameters does."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def is_spot(self, wish: bool | None) -> bool:
        """Returns whether spot instances are launched. Without a wish, the market of the plan decides."""
        return self.market == "spot" if wish is None else wish

    def choices(self, spot: bool | None = None) -> Iterator[tuple[str, str, str]]:
        """Returns the combinations of market, instance type and subnet, the best first.

        `spot` is whether spot instances are asked for, or None to let the market of the plan decide.
        """
        markets = ["spot", "on-demand"] if self.is_spot(spot) else ["on-demand"]
        return product(markets, self.instance_types, self.subnet_ids or [""])

    def arguments(self, market: str, instance_type: str, subnet_id: str) -> dict[str, Any]:
        """Returns the arguments of RunInstances, except for the count, the tags and the token."""
        optional = {
            "SubnetId": subnet_id,
            "SecurityGroupIds": list(self.security_group_ids),
            "IamInstanceProfile": self.instance_profile and {"Name": self.instance_profile},
            "KeyName": self.key_name,
            "LaunchTemplate": self.launch_template
            and {"LaunchTemplateName": self.launch_template, "Version": "$Default"},
            "InstanceMarketOptions": market == "spot" and {"MarketType": "spot"},
        }
        return {
            "ImageId": self.ami_id,
            "InstanceType": instance_type,
            "UserData": self.user_data,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
            **{key: value for key, value in optional.items() if value},
        }


class Fleet:
    """The instances that have the tag `fleet=<name>`.

    `name` must be that of no other fleet in the account: its instances would be terminated.
    """

    def __init__(self, ec2: EC2Client, name: str, worker_name: str, plan: LaunchPlan) -> None:
        self.ec2, self.name, self.worker_name, self.plan = ec2, name, worker_name, plan

    def instances(self) -> list[Instance]:
        """Returns all instances that EC2 shows, the oldest first. Terminated ones stay for about an hour."""
        filters: list[Any] = [{"Name": "tag:fleet", "Values": [self.name]}]
        with calling("list the worker instances"):
            pages = self.ec2.get_paginator("describe_instances").paginate(Filters=filters)
            found = [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
        return sorted(map(read_instance, found), key=lambda i: (i.launched_at, i.instance_id))

    def launch(
        self,
        count: int,
        request_id: str,
        token: str,
        may_launch: Callable[[], bool] = lambda: True,
        walk: Walk | None = None,
        spot: bool | None = None,
    ) -> list[str]:
        """Launches up to `count` instances with one call of RunInstances. Returns their ids.

        The choice of market, type and subnet that `walk` has come to is tried first. If there is no capacity
        for it, the next is tried while `may_launch` returns True. With the same `token`, a repeated launch
        has no effect (ClientToken). Raises NoCapacity if no choice that was tried has capacity; if `walk` is
        then at the first choice, all have been tried. Raises CloudError if EC2 refuses for another reason, or
        if the quota of each choice is 0.
        """
        walk = walk or Walk()
        choices = list(self.plan.choices(spot))
        walk.keep_within(len(choices))
        while True:
            market, instance_type, subnet_id = choices[walk.next]
            try:
                return self._run(count, request_id, f"{token}-{walk.next}", market, instance_type, subnet_id)
            except CloudError as error:
                if error.code not in NO_CAPACITY:
                    raise
                log.warning("no %s %s: %s", market, instance_type, error)
                walk.pass_by(hope=not setting_to_blame(error))
                if walk.next == len(choices) and not walk.end():
                    raise
                if not walk.next or not may_launch():
                    raise NoCapacity(str(error), error.code) from error

    def _run(
        self, count: int, request_id: str, token: str, market: str, instance_type: str, subnet_id: str
    ) -> list[str]:
        tags = {
            "Name": self.worker_name,
            "fleet": self.name,
            "request": request_id,
            "settings": self.plan.fingerprint,
        }
        specification: list[Any] = [{"Key": key, "Value": value} for key, value in tags.items()]
        with calling(f"launch {count} {market} {instance_type} from {self.plan.ami_id}"):
            reply = self.ec2.run_instances(
                MinCount=1,
                MaxCount=count,
                ClientToken=token,
                TagSpecifications=[
                    {"ResourceType": "instance", "Tags": specification},
                    {"ResourceType": "volume", "Tags": specification},
                ],
                **self.plan.arguments(market, instance_type, subnet_id),
            )
        return [instance["InstanceId"] for instance in reply["Instances"]]

    def number(
        self,
        instances: Sequence[Instance],
        new: Sequence[str] = (),
        may_name: Callable[[], bool] = lambda: True,
    ) -> None:
        """Names the active `instances` and the `new` ones that have no number yet `<worker name>-<number>`.

        The lowest free numbers are used. Stopped instances among `instances` keep theirs. RunInstances gives
        the same Name to all instances that it launches, so they are numbered afterwards: at most
        NAMED_AT_ONCE of them, while `may_name` returns True. The next run does the rest.
        """
        numbered = re.compile(re.escape(self.worker_name) + r"-(\d+)")
        kept = [i for i in instances if i.active or i.pooled]
        found = {i.instance_id: numbered.fullmatch(i.name) for i in kept}
        unnumbered = [*(i.instance_id for i in kept if i.active and not found[i.instance_id]), *new]
        taken = {int(match[1]) for match in found.values() if match}
        unnumbered = unnumbered[:NAMED_AT_ONCE]
        for instance_id, number in zip(unnumbered, lowest_free_numbers(taken, len(unnumbered)), strict=True):
            if not may_name():
                return
            with calling(f"name {instance_id}"):
                self.ec2.create_tags(
                    Resources=[instance_id], Tags=[{"Key": "Name", "Value": f"{self.worker_name}-{number}"}]
                )

    def terminate(self, instance_ids: Sequence[str], may_go_on: Callable[[], bool] = lambda: True) -> Outcome:
        """Terminates the instances.

        Those that EC2 refuses are protected, or may not be terminated by the controller's role. If EC2 does
        not terminate all at once, fewer are tried while `may_go_on` returns True.
        """
        return change(instance_ids, "terminate", self.ec2.terminate_instances, CANNOT_TERMINATE, may_go_on)

    def stop(self, instance_ids: Sequence[str], may_go_on: Callable[[], bool]) -> list[str]:
        """Stops the instances. Returns the ids of those that EC2 stops.

        The others are not running, are spot instances, or are protected. If EC2 does not stop all at once,
        fewer are tried while `may_go_on` returns True.
        """
        return change(instance_ids, "stop", self.ec2.stop_instances, CANNOT_STOP, may_go_on).changed

    def start(self, instance_ids: Sequence[str], may_go_on: Callable[[], bool]) -> list[str]:
        """Starts stopped instances. Returns the ids of those that EC2 starts.

        There is no capacity for the others, or they are not stopped any more. If EC2 does not start all at
        once, fewer are tried while `may_go_on` returns True.
        """
        return change(instance_ids, "start", self.ec2.start_instances, CANNOT_START, may_go_on).changed


def change(
    instance_ids: Sequence[str],
    verb: str,
    call: Callable[..., Any],
    refused: Container[str],
    may_go_on: Callable[[], bool],
) -> Outcome:
    """Changes the state of the instances with `call`.

    `refused` are the error codes that are due to one of the instances. EC2 refuses a whole call because of
    one such instance; in that case each half is changed by itself, while `may_go_on` returns True. Raises
    CloudError for other errors.
    """
    try:
        with calling(f"{verb} {', '.join(instance_ids)}"):
            call(InstanceIds=list(instance_ids))
        return Outcome(list(instance_ids), [])
    except CloudError as error:
        if error.code not in refused:
            raise
        log.warning("%s", error)
        if len(instance_ids) == 1:
            return Outcome([], [] if error.code == UNKNOWN else list(instance_ids))
    outcome, middle = Outcome([], []), len(instance_ids) // 2
    for half in (instance_ids[:middle], instance_ids[middle:]):
        if may_go_on():
            part = change(half, verb, call, refused, may_go_on)
            outcome = Outcome(outcome.changed + part.changed, outcome.refused + part.refused)
    return outcome


def read_instance(found: Any) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    return Instance(
        instance_id=found["InstanceId"],
        name=tags.get("Name", ""),
        state=found["State"]["Name"],
        instance_type=found["InstanceType"],
        market=found.get("InstanceLifecycle", "on-demand"),
        launched_at=found["LaunchTime"],
        request_id=tags.get("request", ""),
        reason=found.get("StateReason", {}).get("Code", ""),
        settings=tags.get("settings", ""),
    )
