"""Keeps other sites' pages from acting, or reading, in the name of their visitors.

Browsers say in Sec-Fetch-Site where a request comes from (https://www.w3.org/TR/fetch-metadata/). Over plain
HTTP only some browsers send this header, but all of them send Origin with a POST. Requests with neither
header are allowed: they come from programs, which another site's page cannot control.

Nobody's token has been asked for yet, so what is refused here is not read.

A site whose name leads to this controller's address (DNS rebinding) counts as the same site to browsers. Only
the Host that they send gives it away, so a controller that knows its own names accepts no others.
"""

from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.sansio.utils import host_is_trusted

from controller.web.negotiation import accepted_form
from controller.web.replies import refuse
from controller.web.services import services

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OWN_SITE = {"same-origin", "none"}  # the values of Sec-Fetch-Site that are allowed
THIS_MACHINE = ["127.0.0.1", "localhost"]  # a name of another site is never one of these
PROBES = {"health.healthz", "health.readyz", "health.admit"}  # of load balancers and of nginx, by any name
DEFAULT_PORTS = {"http": 80, "https": 443}


def refuse_foreign_host() -> Response | None:
    """Runs before every HTTP request. Refuses a Host that is none of TRUSTED_HOSTS, if there are any."""
    trusted = services().settings.trusted_hosts
    if not trusted or request.endpoint in PROBES:
        return None
    if host_is_trusted(request.headers.get("Host", "").lower(), [*trusted, *THIS_MACHINE]):
        return None
    message = "This is not the name of this service. Use the address you were given."
    return refuse(421, "unknown_host", message, accepted_form(request))


def refuse_cross_site() -> Response | None:
    """Runs before every HTTP request. Returns a refusal, or None when the request may proceed.

    A page of another site may lead here with a link, but not load anything from here.
    """
    if (is_link() if request.method in SAFE_METHODS else from_own_site()) or request.endpoint == "static":
        return None
    message = "A page of another site has sent this. Send it from this site's own page, or from a program."
    return refuse(403, "cross_site", message, accepted_form(request))


def is_link() -> bool:
    """Returns whether a request that changes nothing comes from this site, from a program or from a link."""
    site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode", "navigate")
    shown_as = request.headers.get("Sec-Fetch-Dest", "document")
    return site is None or site in OWN_SITE or (mode == "navigate" and shown_as == "document")


def from_own_site() -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site not in OWN_SITE:
        return False
    return origin is None or is_own(origin)


def is_own(origin: str) -> bool:
    """Returns whether the origin has the host and the port of the address that the request was sent to.

    A proxy that ends TLS may hide the scheme, so the port of either scheme will do where none is given.
    """
    try:
        theirs, mine = urlsplit(origin), urlsplit(f"//{request.headers.get('Host', '')}")
        ports = {mine.port} if mine.port else set(DEFAULT_PORTS.values())
        return theirs.hostname == mine.hostname and (theirs.port or DEFAULT_PORTS[theirs.scheme]) in ports
    except (ValueError, KeyError):
        return False
