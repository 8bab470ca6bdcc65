"""Prevents cross-site request forgery: pages of other sites cannot act in the name of their visitors.

Browsers say in Sec-Fetch-Site where a request comes from (https://www.w3.org/TR/fetch-metadata/). Over plain
HTTP only some browsers send this header, but all of them send Origin with a POST. Requests with neither
header are allowed: they come from programs, which another site's page cannot control.
"""

from urllib.parse import urlsplit

from flask import Response, request

from controller.web.replies import refuse

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OWN_SITE = {"same-origin", "none"}  # the values of Sec-Fetch-Site that are allowed


def refuse_cross_site() -> Response | None:
    """Runs before every HTTP request. Returns a refusal, or None when the request may proceed."""
    if request.method in SAFE_METHODS or from_own_site():
        return None
    message = "A page of another site has sent this. Send it from this site's own page, or from a program."
    return refuse(403, "cross_site", message)


def from_own_site() -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in OWN_SITE
    # Ports are not compared, because nginx forwards the host name without its port.
    return origin is None or urlsplit(origin).hostname == urlsplit(f"//{request.host}").hostname
