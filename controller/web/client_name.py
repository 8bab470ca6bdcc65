"""Identifies the client that sent an HTTP request, for the quotas."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from flask import g, request


def client_name() -> str:
    """Returns the name of the client's API token or, where no tokens are required, the client's address."""
    return g.get("client") or address(request.environ)


def address(environ: dict[str, Any]) -> str:
    """Returns the client's IP address or, for IPv6, its /64 network. Text that is no address is unchanged.

    The address of a direct client is in REMOTE_ADDR. Its X-Forwarded-For is ignored, because the client can
    set it to anything. nginx connects over a unix socket, which leaves REMOTE_ADDR empty, and appends the
    client's address to X-Forwarded-For. A household usually has a whole /64 network, which counts as one
    client.
    """
    text = environ.get("REMOTE_ADDR") or environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
