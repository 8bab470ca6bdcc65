"""The tokens of API_TOKENS, and the cookies that stand for them. No Flask."""

import hmac
from collections.abc import Iterable
from hashlib import sha256

from itsdangerous import BadSignature, TimestampSigner

from cloud.tokens import ApiToken

COOKIE_SECONDS = 30 * 86400


class KnownTokens:
    """Knows the tokens. A browser's cookie holds none, but a time that is signed with one: every process can
    check it, and it ends with its token, or after 30 days.
    """

    def __init__(self, tokens: Iterable[ApiToken]) -> None:
        self._known = [(t.name, digest(t.token), signer(t.token)) for t in tokens]

    @property
    def restricted(self) -> bool:
        return bool(self._known)

    def by_token(self, token: str) -> str | None:
        """The name of who has it. How long that takes does not depend on how much of it is right."""
        given = digest(token)
        names = [name for name, known, _ in self._known if hmac.compare_digest(known, given)]
        return names[0] if names else None

    def by_cookie(self, cookie: str) -> str | None:
        """The name of who was given it, if it still holds."""
        for name, _, known in self._known:
            try:
                known.unsign(cookie, max_age=COOKIE_SECONDS)
            except BadSignature:
                continue
            return name
        return None

    def cookie(self, token: str) -> str:
        """For who signs in with this token."""
        return signer(token).sign("").decode()


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def signer(token: str) -> TimestampSigner:
    return TimestampSigner(token, salt="signed-in", digest_method=sha256)
