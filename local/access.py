"""Decides who may call the local AWS: the user who started it and its instances, but no web page.

Whoever can call it can run code as that user, because an instance is a process that runs the user data of the
call. A request is therefore refused with status 403 if a browser sends it on behalf of another site, if its
`Host` is a foreign one (as after DNS rebinding), or if it is not signed with an access key of this run. The
signature itself is not verified: here, the id of a key is as secret as the secret access key.
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
PRESIGNED = re.compile(r"(?:^|&)AWSAccessKeyId=([^&]+)")  # presigned URLs of S3 with signature version 2
INSTANCES = "/_local/instances/"
OWN_SITE = ("same-origin", "none")  # the values of Sec-Fetch-Site that are accepted


class AccessKey(NamedTuple):
    id: str
    secret: str

    @classmethod
    def new(cls) -> Self:
        """Returns a random key."""
        return cls("AKIA" + b32encode(secrets.token_bytes(10)).decode(), secrets.token_hex(20))

    def environment(self) -> dict[str, str]:
        """Returns the key as the environment variables that SDKs and the AWS CLI read."""
        return {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def of_instance(self, instance_id: str) -> "AccessKey":
        """Returns the key of an instance's role. It cannot be computed without knowing this key."""
        proof = hmac.digest(self.secret.encode(), instance_id.encode(), "sha256")
        return AccessKey("ASIA" + b32encode(proof[:10]).decode(), proof[10:].hex())

    def metadata_path(self, instance_id: str) -> str:
        """Returns the path of the instance's metadata service, which is as hard to guess as its key."""
        return f"{INSTANCES}{instance_id}/{self.of_instance(instance_id).secret}"


def signed_with(environ: dict[str, Any]) -> tuple[str, str]:
    """Returns the access key id and the service of a signed request, or two empty strings if it is unsigned.

    `environ` is the WSGI environment.
    """
    query = unquote(environ.get("QUERY_STRING", ""))
    if found := SIGNED.search(environ.get("HTTP_AUTHORIZATION") or query):
        return found[1], found[2]
    presigned = PRESIGNED.search(query)
    return (presigned[1], "s3") if presigned else ("", "")


def refusal(environ: dict[str, Any], port: int, key: AccessKey, issued: Container[str]) -> Response | None:
    """Returns the response to a request that is refused, or None if the request is allowed.

    `port` is the port of the local AWS, `key` the user's key, and `issued` are the ids of the keys that were
    given to instances. The metadata service of an instance checks the secret in its path itself.
    """
    request = Request(environ)
    if request.headers.get("Host") not in [f"{host}:{port}" for host in HOSTS]:
        return refuse(request, f"The local AWS answers only as {HOSTS[0]}:{port} or {HOSTS[1]}:{port}.")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITE:
        return refuse(request, "The local AWS accepts no requests from web pages.")
    if request.path.startswith(INSTANCES):
        return None
    if request.path.startswith(("/_local/", "/moto-api")):
        given = request.authorization
        if given and (given.username, given.password) == key:
            return None
        return refuse(
            request,
            "Basic authentication with AWS_ACCESS_KEY_ID as the user name and AWS_SECRET_ACCESS_KEY as the"
            " password is required.",
        )
    key_id, _ = signed_with(environ)
    if key_id == key.id or key_id in issued:
        return None
    return refuse(
        request,
        "This access key does not belong to this run. The file that `make run` names has the right one.",
    )


def refuse(request: Request, message: str) -> Response:
    """Returns a 403 response in the error format of the service that the request is for."""
    if "X-Amz-Target" in request.headers:
        body = json.dumps({"__type": "InvalidClientTokenId", "message": message})
        return Response(body, 403, mimetype="application/x-amz-json-1.0")
    _, service = signed_with(request.environ)
    error = f"<Error><Code>InvalidClientTokenId</Code><Message>{message}</Message></Error>"
    wrapped = {"s3": error, "ec2": f"<Response><Errors>{error}</Errors></Response>"}
    return Response(wrapped.get(service, f"<ErrorResponse>{error}</ErrorResponse>"), 403, mimetype="text/xml")
