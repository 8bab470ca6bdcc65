"""Implements the EC2 calls in which moto differs from AWS in a way that matters here.

RunInstances launches as many instances as possible, up to MaxCount (moto: MinCount). It launches them only
once per client token (moto: each time), uses everything in a launch template, and gives each instance the
instance profile (moto: only the first). StopInstances and StartInstances refuse instances in a state in which
they cannot be stopped or started, StopInstances also spot instances, and StartInstances needs capacity.
GetConsoleOutput returns what the instance has printed. DeleteLaunchTemplate says that an id
is unknown (moto: that a name is), from which Terraform learns, when it repeats the call, that the first one
succeeded.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StartInstances.html and
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import moto.ec2.urls
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError, OperationNotPermitted4
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance, InstanceState, Reservation
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.responses import EC2Response
from werkzeug.exceptions import HTTPException

from local.instances import Instances, kind_of

AMI_ID = "ami-12c6146b"
"""The AMI of all local instances."""

Changes = list[tuple[Instance, InstanceState]]
"""Instances, each with its state before the change."""

LEFT_OUT_BY_MOTO = (
    "InstanceType",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "MetadataOptions",
    "IamInstanceProfile",
)


class InsufficientInstanceCapacity(HTTPException):
    code = 500  # as on AWS: an error of the server, which clients retry
    description = (
        "<Response><Errors><Error><Code>InsufficientInstanceCapacity</Code><Message>There is not enough "
        "capacity for this instance type and market at the moment.</Message></Error></Errors></Response>"
    )


class LocalEC2Response(EC2Response):
    """Handles one EC2 call at a time, because moto's EC2 is not thread-safe."""

    ec2_backend: "LocalEC2"

    def call_action(self) -> Any:
        with LocalEC2.instances.lock:
            return super().call_action()

    def run_instances(self) -> ActionResult:
        asked = dict(self.params)
        token = asked.pop("ClientToken", None)
        if token in self.ec2_backend.launches:
            asked_before, reply = self.ec2_backend.launches[token]
            if asked != asked_before:
                raise EC2ClientError(
                    "IdempotentParameterMismatch", f"{token} was used with other parameters before."
                )
            return ActionResult(reply)
        self._complete_from_launch_template()
        self.params["MinCount"] = self._count()
        reservation: Any = super().run_instances().result
        self._give_profile(reservation.instances[1:])
        if token:
            self.ec2_backend.launches[token] = (asked, reservation)
        return ActionResult(reservation)

    def _complete_from_launch_template(self) -> None:
        if template := self.params.get("LaunchTemplate"):
            data = self.ec2_backend._get_template_from_args(template).data
            self.params |= {name: data[name] for name in LEFT_OUT_BY_MOTO if name in data} | self.params

    def _count(self) -> int:
        """Returns how many instances to launch. Raises InsufficientInstanceCapacity below MinCount."""
        least, most = int(self.params["MinCount"]), int(self.params["MaxCount"])
        if not 1 <= least <= most:
            raise EC2ClientError(
                "InvalidParameterValue", f"MinCount {least} and MaxCount {most} do not fit together."
            )
        market = self._get_param("InstanceMarketOptions.MarketType") or "on-demand"
        capacity = LocalEC2.instances.capacity(self._get_param("InstanceType", "m1.small"), market)
        if capacity is not None and capacity < least:
            raise InsufficientInstanceCapacity()
        return most if capacity is None else min(most, capacity)

    def _give_profile(self, instances: list[Instance]) -> None:
        profile = self._get_param("IamInstanceProfile", {})
        for instance in instances if profile else []:
            self.ec2_backend.associate_iam_instance_profile(
                instance.id, profile.get("Name"), profile.get("Arn")
            )

    def get_console_output(self) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = LocalEC2.instances.console(instance.id)
        return ActionResult(
            {"InstanceId": instance.id, "Timestamp": utcnow(), "Output": b64encode(text).decode()}
        )

    def terminate_instances(self) -> ActionResult:
        return self._change("TerminatingInstances", self.ec2_backend.terminate_instances)

    def stop_instances(self) -> ActionResult:
        return self._change("StoppingInstances", self.ec2_backend.stop_instances)

    def start_instances(self) -> ActionResult:
        return self._change("StartingInstances", self.ec2_backend.start_instances)

    def _change(self, name: str, change: Callable[[list[str]], Changes]) -> ActionResult:
        self.error_on_dryrun()
        changes = [
            {"InstanceId": instance.id, "PreviousState": before, "CurrentState": instance.instance_state}
            for instance, before in change(self._get_param("InstanceIds", []))
        ]
        return ActionResult({name: changes})


class LocalEC2(EC2Backend):
    """The EC2 of one region."""

    instances: ClassVar[Instances]
    """The instances of all regions. As a process can have only one endpoint, this is a class attribute."""
    # moto would look for these URLs in the module of the class.
    _url_module = SimpleNamespace(
        url_bases=moto.ec2.urls.url_bases, url_paths={"{0}/": LocalEC2Response.dispatch}
    )

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.launches: dict[str, tuple[dict[str, Any], Reservation]] = {}
        """The parameters and the reservation of each RunInstances call, by client token."""

    def _load_amis(self) -> None:
        """Registers the one AMI that is needed. moto would register 1,300, which takes 0.4 s."""
        name = "image-classifier-local"
        self.amis[AMI_ID] = Ami(self, AMI_ID, name=name, description=name, public=True, architecture="x86_64")

    def reset(self) -> None:
        """Does nothing. moto would set the backend up again, which takes 0.1 s, and then drop it."""

    def run_instances(self, *args: Any, **kwargs: Any) -> Reservation:
        reservation = super().run_instances(*args, **kwargs)
        for instance in reservation.instances:
            self.instances.launch(instance)
        return reservation

    def terminate_instances(self, instance_ids: list[str]) -> Changes:
        found = self._with_state(instance_ids)
        for instance, _ in found:
            if instance.disable_api_termination:
                raise OperationNotPermitted4(instance.id)
            self.instances.power_off(instance, "shutting-down")
        return found

    def stop_instances(self, instance_ids: list[str]) -> Changes:
        found = self._with_state(instance_ids)
        for instance, before in found:
            if instance.lifecycle == "spot":
                raise EC2ClientError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a"
                    " one-time Spot Instance request. You can only stop Spot Instances associated with"
                    " persistent Spot Instance requests.",
                )
            _refuse(instance, before, "stopped", allowed=("running", "stopping", "stopped"))
        for instance, _ in found:
            self.instances.power_off(instance, "stopping")
        return found

    def start_instances(self, instance_ids: list[str]) -> Changes:
        found = self._with_state(instance_ids)
        for instance, before in found:
            _refuse(instance, before, "started", allowed=("stopped", "pending", "running"))
        stopped = [instance for instance, before in found if before.name == "stopped"]
        for kind, count in Counter(map(kind_of, stopped)).items():
            capacity = self.instances.capacity(*kind)
            if capacity is not None and capacity < count:
                raise InsufficientInstanceCapacity()
        for instance in stopped:
            self.instances.start(instance)
        return found

    def delete_launch_template(self, name: str, tid: str | None) -> LaunchTemplate:
        if tid and not name:
            self.get_launch_template(tid)
        return super().delete_launch_template(name, tid)

    def _with_state(self, instance_ids: list[str]) -> Changes:
        return [
            (instance, instance.instance_state) for instance in self.get_multi_instances_by_id(instance_ids)
        ]


def _refuse(instance: Instance, before: InstanceState, change: str, allowed: tuple[str, ...]) -> None:
    """Raises EC2's error if the instance cannot be `change`d (stopped or started) from the state `before`."""
    if before.name not in allowed:
        raise EC2ClientError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be {change}.",
        )
