"""The instance metadata service (IMDSv2), one per instance, behind a path of its own.

`Endpoint.metadata_url` is the AWS_EC2_METADATA_SERVICE_ENDPOINT that leads an instance's SDK there. Beside
AWS's own paths, what EC2 would announce can be announced from outside:

* ``POST …/spot-interruption`` with optional JSON ``{"seconds": 120}``: ``spot/instance-action`` appears, and
  after the seconds the instance is terminated;
* ``POST …/rebalance-recommendation``: ``events/recommendations/rebalance`` appears.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

import hmac
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from threading import Timer

from moto.ec2.models.instances import Instance
from werkzeug.wrappers import Request, Response

from local.access import AccessKey
from local.instances import Instances

LONGEST_TOKEN = 21600  # seconds
CREDENTIALS_LAST = timedelta(hours=6)
WARNING_BEFORE_INTERRUPTION = 120.0  # seconds


class Metadata:
    def __init__(self, instances: Instances, key: AccessKey) -> None:
        self._instances, self._key = instances, key
        self.clear()

    def clear(self) -> None:
        self.issued: set[str] = set()
        """Ids of the access keys that instances were given."""
        self._tokens: dict[str, tuple[str, float]] = {}  # token → instance id, end
        self._notices: dict[str, dict[str, str]] = {}  # instance id → path below latest/meta-data/ → JSON

    def answer(self, request: Request, instance_id: str, secret: str, path: str) -> Response:
        """The answer to what was asked below ``/_local/instances/<instance-id>/<secret>/``."""
        instance = self._instances.find(instance_id)
        if instance is None or not hmac.compare_digest(secret, self._key.of_instance(instance_id).secret):
            return Response(f"No instance {instance_id} lives here.\n", 404)
        match request.method, path:
            case "PUT", "latest/api/token":
                return self._token(request, instance_id)
            case "POST", "spot-interruption":
                asked = request.get_json(force=True) if request.content_length else {}
                return self._interrupt(instance_id, float(asked.get("seconds", WARNING_BEFORE_INTERRUPTION)))
            case "POST", "rebalance-recommendation":
                return self._notice(instance_id, "events/recommendations/rebalance", noticeTime=_iso())
            case "GET", _:
                return self._get(request, instance, path)
        return Response(status=405)

    def _token(self, request: Request, instance_id: str) -> Response:
        seconds = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", 0, int)
        if not 1 <= seconds <= LONGEST_TOKEN:
            return Response("The token's time to live must be 1 to 21600 seconds.\n", 400)
        now = time.monotonic()
        self._tokens = {token: owner for token, owner in self._tokens.items() if owner[1] > now}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (instance_id, now + seconds)
        return Response(token, headers={"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)})

    def _get(self, request: Request, instance: Instance, path: str) -> Response:
        token = request.headers.get("X-aws-ec2-metadata-token", "")
        owner, end = self._tokens.get(token, ("", 0.0))
        if owner != instance.id or time.monotonic() >= end:
            return Response("A token from PUT latest/api/token is needed.\n", 401)
        key = self._key.of_instance(instance.id)
        values = _values(instance, key) | self._notices.get(instance.id, {})
        self.issued.add(key.id)
        if path in values:
            return Response(values[path])
        folder = path.rstrip("/") + "/"
        below = [value.removeprefix(folder) for value in values if value.startswith(folder)]
        names = dict.fromkeys(name.split("/")[0] + "/" * ("/" in name) for name in below)
        return Response("\n".join(names)) if names else Response(status=404)

    def _interrupt(self, instance_id: str, seconds: float) -> Response:
        timer = Timer(seconds, self._instances.terminate, [instance_id])
        timer.daemon = True
        timer.start()
        when = _iso(timedelta(seconds=seconds))
        return self._notice(instance_id, "spot/instance-action", action="terminate", time=when)

    def _notice(self, instance_id: str, path: str, **content: str) -> Response:
        notices = self._notices.get(instance_id, {})
        self._notices[instance_id] = notices | {f"latest/meta-data/{path}": json.dumps(content)}
        return Response(status=204)


def _values(instance: Instance, key: AccessKey) -> dict[str, str]:
    """Path below the service's root → value."""
    profile = instance.iam_instance_profile or {"Arn": "arn:aws:iam::123456789012:instance-profile/local"}
    arn = profile["Arn"]
    values = {
        "ami-id": instance.image_id,
        "iam/info": json.dumps({"Code": "Success", "LastUpdated": _iso(), "InstanceProfileArn": arn}),
        f"iam/security-credentials/{arn.split('/')[-1]}": json.dumps(_credentials(key)),
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "placement/availability-zone": instance.availability_zone,
        "placement/region": instance.region_name,
    }
    if instance.metadata_options.instance_metadata_tags == "enabled":
        values |= {f"tags/instance/{tag['key']}": tag["value"] for tag in instance.get_tags()}
    identity = {
        "accountId": instance.owner_id,
        "availabilityZone": instance.availability_zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "region": instance.region_name,
    }
    below = {f"latest/meta-data/{name}": value or "" for name, value in values.items()}
    return below | {"latest/dynamic/instance-identity/document": json.dumps(identity)}


def _credentials(key: AccessKey) -> dict[str, str]:
    """With a profile or not: IAM is not enforced here. The access key tells whose calls are whose."""
    return {
        "Code": "Success",
        "LastUpdated": _iso(),
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "Token": secrets.token_urlsafe(64),
        "Expiration": _iso(CREDENTIALS_LAST),
    }


def _iso(later: timedelta = timedelta()) -> str:
    return f"{datetime.now(UTC) + later:%Y-%m-%dT%H:%M:%SZ}"
