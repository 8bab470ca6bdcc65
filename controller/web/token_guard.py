"""Admits only clients with an API token, if API_TOKENS is set."""

from flask import Response, g, request, url_for
from werkzeug.datastructures import WWWAuthenticate

from controller.web.authentication import KnownTokens, not_known
from controller.web.negotiation import Form, accepted_form
from controller.web.replies import refuse, see_other
from controller.web.return_address import asked_for
from controller.web.services import services

COOKIE = "signed_in"
OPEN = {"static", "health.healthz", "health.readyz", "sign_in.show_form", "sign_in.enter"}
"""The endpoints that need no token."""


def guard() -> Response | None:
    """Runs before every HTTP request, even to an unknown address.

    Returns a refusal, or None when the request may proceed. Sets `g.client` to the name of the client's
    token, or to None if it has none.
    """
    access = services().tokens
    if not access.restricted:
        return None
    g.client = client(access)
    if g.client or request.endpoint in OPEN:
        return None
    if is_navigation() and request.method in ("GET", "HEAD"):
        return see_other(url_for("sign_in.show_form", next=asked_for(request)))
    return refuse_unknown()


def client(access: KnownTokens) -> str | None:
    """Returns the name of the client's token, or None if it has no valid token or cookie.

    If there is a bearer token, the cookie is ignored: a client with a wrong token is refused.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return access.by_token(token.strip())
    return access.by_cookie(sent_cookie())


def sent_cookie() -> str:
    """Returns the value of the client's cookie, or "" if it has sent none.

    Werkzeug's own parser takes seconds for some headers, and no other thread runs meanwhile.
    """
    pairs = (pair.partition("=") for pair in request.headers.get("Cookie", "").split(";"))
    return next((value.strip() for name, _, value in pairs if name.strip() == COOKIE), "")


def is_navigation() -> bool:
    """Returns whether a browser will show the answer as a page, as opposed to passing it to a script."""
    return accepted_form(request) is Form.HTML and request.headers.get("Sec-Fetch-Mode") in (None, "navigate")


def refuse_unknown() -> Response:
    wrong = "Authorization" in request.headers
    code, what = (
        ("invalid_token", not_known(request.headers["Authorization"]))
        if wrong
        else ("unauthorized", "This needs an API token.")
    )
    how = (
        "Programs send it as the header 'Authorization: Bearer <token>';"
        f" in a browser, sign in at {url_for('sign_in.show_form')}."
    )
    response = refuse(401, code, f"{what} {how}", accepted_form(request))
    response.www_authenticate = WWWAuthenticate("bearer", {"error": code} if wrong else {"realm": "api"})
    return response
