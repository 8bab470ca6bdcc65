"""Who may call the local AWS: the user who started it, its instances, and no web page.

Whoever can call it can run code as that user, since an instance is a process with the user data of the call.
So every request is refused (403) that a browser sends for another site, that comes under a foreign `Host` (as
after DNS rebinding), or that is not signed with a key of this run. Signatures themselves are not verified: a
key's id is as secret here as its secret part.
"""

import hmac
import json
import re
import secrets
from base64 import b32encode
from collections.abc import Container
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

HOSTS = ("127.0.0.1", "localhost")
SIGNED = re.compile(r"Credential=([^/]+)/\d{8}/[^/]+/([^/]+)/aws4_request")
PRESIGNED = re.compile(r"(?:^|&)AWSAccessKeyId=([^&]+)")  # S3 addresses in the older of their two forms
INSTANCES = "/_local/instances/"
OWN_SITE = ("same-origin", "none")  # values of Sec-Fetch-Site


class AccessKey(NamedTuple):
    id: str
    secret: str

    @classmethod
    def new(cls) -> Self:
        return cls("AKIA" + b32encode(secrets.token_bytes(10)).decode(), secrets.token_hex(20))

    def environment(self) -> dict[str, str]:
        """As SDKs and the AWS CLI read it."""
        return {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def of_instance(self, instance_id: str) -> "AccessKey":
        """The key of an instance's role, which nobody can work out without this one."""
        proof = hmac.digest(self.secret.encode(), instance_id.encode(), "sha256")
        return AccessKey("ASIA" + b32encode(proof[:10]).decode(), proof[10:].hex())

    def metadata_path(self, instance_id: str) -> str:
        """Where the instance's metadata service is; as hard to guess as its key."""
        return f"{INSTANCES}{instance_id}/{self.of_instance(instance_id).secret}"


def signed_with(environ: dict[str, Any]) -> tuple[str, str]:
    """The id of the access key and the service of a signed request; both empty where nothing is signed."""
    query = unquote(environ.get("QUERY_STRING", ""))
    if found := SIGNED.search(environ.get("HTTP_AUTHORIZATION") or query):
        return found[1], found[2]
    presigned = PRESIGNED.search(query)
    return (presigned[1], "s3") if presigned else ("", "")


def refusal(environ: dict[str, Any], port: int, key: AccessKey, issued: Container[str]) -> Response | None:
    """Why a request is not carried out, or None. `issued`: ids of the keys that instances were given.

    An instance's metadata service checks its own path.
    """
    request = Request(environ)
    if request.headers.get("Host") not in [f"{host}:{port}" for host in HOSTS]:
        return refuse(request, f"The local AWS is reached as {HOSTS[0]}:{port} or {HOSTS[1]}:{port} alone.")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITE:
        return refuse(request, "The local AWS takes no requests from web pages.")
    if request.path.startswith(INSTANCES):
        return None
    if request.path.startswith(("/_local/", "/moto-api")):
        given = request.authorization
        if given and (given.username, given.password) == key:
            return None
        return refuse(request, "Send AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by basic authentication.")
    key_id, _ = signed_with(environ)
    if key_id == key.id or key_id in issued:
        return None
    return refuse(request, "This access key is not one of this run: read aws.env, which `make run` names.")


def refuse(request: Request, message: str) -> Response:
    """In the form in which the SDK of the service reads errors."""
    if "X-Amz-Target" in request.headers:
        body = json.dumps({"__type": "InvalidClientTokenId", "message": message})
        return Response(body, 403, mimetype="application/x-amz-json-1.0")
    _, service = signed_with(request.environ)
    error = f"<Error><Code>InvalidClientTokenId</Code><Message>{message}</Message></Error>"
    wrapped = {"s3": error, "ec2": f"<Response><Errors>{error}</Errors></Response>"}
    return Response(wrapped.get(service, f"<ErrorResponse>{error}</ErrorResponse>"), 403, mimetype="text/xml")
