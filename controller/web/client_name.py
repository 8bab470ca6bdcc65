"""Who sent a request, for the quotas."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from flask import g, request


def client_name() -> str:
    """The name of its token; without tokens, its address."""
    return g.get("client") or address(request.environ)


def address(environ: dict[str, Any]) -> str:
    """Of the client itself: behind nginx, which comes over the unix socket and so has no address, that in
    nginx's header. From a direct client the header could say anything, and counts for nothing. A household
    has a whole /64 of IPv6, which counts as one address.
    """
    text = environ.get("REMOTE_ADDR") or environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
