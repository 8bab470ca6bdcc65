"""Serves the instance metadata of EC2 (IMDSv2), for each instance at a path of its own.

The SDK of an instance finds it by the environment variable AWS_EC2_METADATA_SERVICE_ENDPOINT, whose value is
`Endpoint.metadata_url`. In addition to the paths of AWS, there are two for tests, which announce what EC2
would announce:

* ``POST …/spot-interruption`` with optional JSON ``{"seconds": 120}`` adds ``spot/instance-action``, and
  terminates the instance after that time.
* ``POST …/rebalance-recommendation`` adds ``events/recommendations/rebalance``.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

import hmac
import json
import secrets
import time
from base64 import b64decode
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
        """The ids of the access keys that instances have got so far."""
        self._tokens: dict[str, tuple[str, float]] = {}
        """The instance id of each token, and the time.monotonic() at which the token expires."""
        self._notices: dict[str, dict[str, str]] = {}
        """The announcements for each instance id: JSON by path."""

    def answer(self, request: Request, instance_id: str, secret: str, path: str) -> Response:
        """Answers a request whose URL path is ``/_local/instances/<instance_id>/<secret>/<path>``."""
        instance = self._instances.find(instance_id)
        if instance is None or not hmac.compare_digest(secret, self._key.of_instance(instance_id).secret):
            return Response(f"There is no instance {instance_id}, or the path has a wrong secret.\n", 404)
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
            return Response(f"The token's time to live must be 1 to {LONGEST_TOKEN} seconds.\n", 400)
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
    """Returns the metadata of an instance: value by path."""
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
    if user_data := b64decode(str(instance.user_data or "")):
        below["latest/user-data"] = user_data.decode(errors="replace")
    return below | {"latest/dynamic/instance-identity/document": json.dumps(identity)}


def _credentials(key: AccessKey) -> dict[str, str]:
    """Returns the credentials of an instance's role, as the metadata service has them.

    Every instance gets some, even without an instance profile, because IAM is not enforced here.
    """
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
