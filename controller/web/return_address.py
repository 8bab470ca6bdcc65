"""The page that somebody wanted, kept while they sign in. It is always one of this site."""

import re
from urllib.parse import quote

from flask import Request

# Browsers take "\" for "/" and drop tabs and line ends, so that "/\t/evil.example" is another site's address.
PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


def asked_for(request: Request) -> str:
    query = request.query_string.decode("latin-1")
    return quote(request.path) + (f"?{query}" if query else "")


def safe(address: str) -> str:
    """The address, if it is a path of this site in ASCII; else the first page."""
    return address if PATH.fullmatch(address) else "/"
