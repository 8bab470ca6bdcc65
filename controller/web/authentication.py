"""Checks API tokens, and the cookies that stand for them. This module does not depend on Flask."""

import hmac
from collections.abc import Iterable
from hashlib import sha256

from itsdangerous import BadSignature, TimestampSigner

from cloud.tokens import ApiToken

COOKIE_SECONDS = 30 * 86400  # how long a browser stays signed in


class KnownTokens:
    """The tokens that may use the controller.

    A browser's cookie contains no token, only a timestamp that is signed with one. Every process can verify
    the cookie, which is valid for 30 days or until its token is removed.
    """

    def __init__(self, tokens: Iterable[ApiToken]) -> None:
        self._known = [(t.name, digest(t.token), signer(t.token)) for t in tokens]

    @property
    def restricted(self) -> bool:
        """Whether clients need a token."""
        return bool(self._known)

    def by_token(self, token: str) -> str | None:
        """Returns the name of the token, or None if the token is unknown.

        Tokens are compared in constant time, so that response times reveal nothing about them.
        """
        given = digest(token)
        names = [name for name, known, _ in self._known if hmac.compare_digest(known, given)]
        return names[0] if names else None

    def by_cookie(self, cookie: str) -> str | None:
        """Returns the name of the token that signed the cookie, or None if it is invalid or expired.

        The clock of the host that signed it may be ahead of this one's.
        """
        for name, _, known in self._known:
            try:
                _, signed_at = known.unsign(cookie, return_timestamp=True)
            except BadSignature:
                continue
            return name if known.get_timestamp() - signed_at.timestamp() <= COOKIE_SECONDS else None
        return None

    def cookie(self, token: str) -> str:
        """Returns the value of a new cookie for a browser that signs in with this token."""
        return signer(token).sign("").decode()


def not_known(token: str) -> str:
    """Returns a sentence about a token that is not known. Some people send all of `name:token`."""
    return "This token is not known here" + (": leave out its name and the colon." if ":" in token else ".")


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def signer(token: str) -> TimestampSigner:
    return TimestampSigner(token, salt="signed-in", digest_method=sha256)
