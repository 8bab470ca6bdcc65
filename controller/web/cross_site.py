"""Pages of other sites may not act here in the name of whoever visits them.

A browser says where a request comes from (https://www.w3.org/TR/fetch-metadata/); over plain HTTP only some
do, but all name the page's origin with a POST. Other programs say neither, and are no way into somebody's
browser.
"""

from urllib.parse import urlsplit

from flask import Response, request

from controller.web.replies import refuse

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OWN_SITE = {"same-origin", "none"}  # values of Sec-Fetch-Site


def refuse_cross_site() -> Response | None:
    """Before every request: the refusal, unless it may go on."""
    if request.method in SAFE_METHODS or from_own_site():
        return None
    message = "A page of another site has sent this. Send it from this site's own page, or from a program."
    return refuse(403, "cross_site", message)


def from_own_site() -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in OWN_SITE
    # Without the ports: nginx passes the host's name alone.
    return origin is None or urlsplit(origin).hostname == urlsplit(f"//{request.host}").hostname
