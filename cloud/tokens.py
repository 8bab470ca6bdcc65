"""The tokens of API_TOKENS."""

import re
from typing import NamedTuple

LEAST_CHARACTERS = 16
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a header may carry (RFC 6750)
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class ApiToken(NamedTuple):
    name: str
    """Of who has it; not secret."""
    token: str


def read_tokens(text: str) -> list[ApiToken]:
    """`name:token` or bare tokens, with commas. ValueError when one is unfit; it never quotes a token."""
    parts = [part.strip() for part in text.split(",")]
    tokens = [read_token(number, part) for number, part in enumerate(parts, 1) if part]
    if text and not tokens:
        raise ValueError("it is set, but holds no token")
    return tokens


def read_token(number: int, part: str) -> ApiToken:
    name, colon, token = part.rpartition(":")
    if colon and not NAME.fullmatch(name):
        raise ValueError(f"the name of token {number} should have only letters, digits, '.', '_' and '-'")
    if len(token) < LEAST_CHARACTERS:
        raise ValueError(f"token {number} should have at least {LEAST_CHARACTERS} characters")
    if not TOKEN.fullmatch(token):
        raise ValueError(f"token {number} should have only letters, digits and -._~+/, and = at its end")
    return ApiToken(name or f"token-{number}", token)
