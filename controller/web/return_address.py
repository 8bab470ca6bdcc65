"""Keeps the address that a person asked for while they sign in. Addresses of other sites are rejected."""

import re
from urllib.parse import quote

from flask import Request

LONGEST = 1000  # characters; they grow threefold in a header, and nginx has 4,000 bytes for all of an answer
# Browsers read "\" as "/" and remove tabs and line ends, so "/\t/evil.example" would lead to another site.
PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def asked_for(request: Request) -> str:
    """Returns the path and query of the request, percent-encoded, or "/" if they are too long."""
    query = request.query_string.decode("latin-1")
    address = quote(request.path) + (f"?{query}" if query else "")
    return address if len(address) <= LONGEST else "/"


def safe(address: str) -> str:
    """Returns `address` if it is an ASCII path on this site, and "/" otherwise."""
    return address if PATH.fullmatch(address) else "/"
