"""Requests to the controller as browsers and programs send them."""

import html

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def post(client, *files, field="image_file", **more):
    return client.post("/", data={field: list(files)}, **more)


def page(response) -> str:
    assert response.mimetype == "text/html"
    return html.unescape(response.text)
