"""Parses the tokens in API_TOKENS."""

import re
from hashlib import sha256
from typing import NamedTuple

MIN_TOKEN_CHARACTERS = 16
NAME_DIGITS = 12  # hex digits of the hash in the name of a token that was given none
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # the syntax of a bearer token in RFC 6750
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class ApiToken(NamedTuple):
    name: str
    """The name of the client that has the token. It is not secret."""
    token: str


def read_tokens(text: str) -> list[ApiToken]:
    """Returns the tokens in `text`, where commas separate items of the form `name:token` or `token`.

    Raises ValueError when an item is malformed. The message never quotes a token.
    """
    parts = [part.strip() for part in text.split(",")]
    tokens = [read_token(number, part) for number, part in enumerate(parts, 1) if part]
    if text and not tokens:
        raise ValueError("it is set, but holds no token")
    return tokens


def read_token(number: int, part: str) -> ApiToken:
    """Parses one item, whose `number` starts at 1. A token without a name is named after its hash.

    A name must not depend on what other tokens there are, because idempotency keys and quotas go by it.
    """
    name, colon, token = part.rpartition(":")
    if colon and not NAME.fullmatch(name):
        raise ValueError(f"the name of token {number} should have only letters, digits, '.', '_' and '-'")
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise ValueError(f"token {number} should have at least {MIN_TOKEN_CHARACTERS} characters")
    if not TOKEN.fullmatch(token):
        raise ValueError(f"token {number} should have only letters, digits and -._~+/, and = at its end")
    return ApiToken(name or f"token-{sha256(token.encode()).hexdigest()[:NAME_DIGITS]}", token)
