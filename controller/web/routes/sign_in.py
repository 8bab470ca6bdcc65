"""Lets people sign in with an API token in a browser. These routes exist only if API_TOKENS is set."""

from flask import Blueprint, Response, render_template, request, url_for

from controller.web.authentication import COOKIE_SECONDS, not_known
from controller.web.replies import see_other
from controller.web.return_address import safe
from controller.web.services import services
from controller.web.token_guard import COOKIE

sign_in = Blueprint("sign_in", __name__)

MAX_FORM_BYTES = 10_000  # plenty for a token and a path


@sign_in.get("/sign-in")
def show_form() -> Response:
    """Shows the form to sign in.

    A browser withholds the SameSite=Strict cookie when a link on another site leads here, so people who are
    signed in may arrive at this form. The page then moves on to `next` by itself. This time the browser sends
    the cookie, because the navigation starts on this site.
    """
    return page(200, safe(request.args.get("next", "/")))


@sign_in.post("/sign-in")
def enter() -> Response:
    request.max_content_length = MAX_FORM_BYTES
    token, wanted = request.form.get("token", "").strip(), safe(request.form.get("next", "/"))
    access = services().tokens
    if not access.by_token(token):
        response = page(401, wanted, not_known(token) if token else "Enter your token.")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    response = see_other(wanted)
    response.set_cookie(
        COOKIE,
        access.cookie(token),
        max_age=COOKIE_SECONDS,
        httponly=True,
        secure=request.is_secure,
        samesite="Strict",
    )
    return response


@sign_in.post("/sign-out")
def leave() -> Response:
    response = see_other(url_for("sign_in.show_form"))
    response.delete_cookie(COOKIE, httponly=True, secure=request.is_secure, samesite="Strict")
    return response


def page(status: int, wanted: str, problem: str = "") -> Response:
    from_elsewhere = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    go_on = from_elsewhere and request.method == "GET" and wanted != url_for("sign_in.show_form")
    text = render_template("sign-in.html", wanted=wanted, problem=problem, go_on=go_on)
    return Response(text, status, mimetype="text/html")
