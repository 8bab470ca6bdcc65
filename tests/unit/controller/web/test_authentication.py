import itsdangerous.timed
import pytest

from cloud.tokens import ApiToken
from controller.web.authentication import COOKIE_SECONDS, KnownTokens

ANNA, CI, OLD = "anna-0123456789abc", "ci-0123456789abcde", "old-0123456789abcd"


@pytest.fixture
def access() -> KnownTokens:
    return KnownTokens([ApiToken("anna", ANNA), ApiToken("ci", CI)])


@pytest.fixture
def ahead(monkeypatch):
    """Lets so many seconds go by."""

    def ahead(seconds):
        then = itsdangerous.timed.time.time() + seconds
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda _: int(then))

    return ahead


def test_without_tokens_nothing_is_restricted(access):
    assert access.restricted
    assert not KnownTokens([]).restricted


def test_a_token_has_the_name_of_who_has_it(access):
    assert (access.by_token(ANNA), access.by_token(CI)) == ("anna", "ci")


@pytest.mark.parametrize("token", ["", ANNA[:-1], f"{ANNA}x", ANNA.upper(), "ключ", "\x00", "x" * 100_000])
def test_what_is_no_token_has_no_name(access, token):
    assert access.by_token(token) is None
    assert access.by_cookie(token) is None


def test_a_cookie_stands_for_the_token_in_every_process_and_does_not_hold_it(access):
    cookie = access.cookie(CI)
    assert KnownTokens([ApiToken("robot", CI)]).by_cookie(cookie) == "robot"
    assert CI not in cookie
    assert access.by_token(cookie) is None
    assert access.by_cookie(CI) is None


def test_a_cookie_ends_with_its_token(access):
    cookie = KnownTokens([ApiToken("anna", OLD)]).cookie(OLD)
    assert access.by_cookie(cookie) is None


def test_a_cookie_ends_after_its_time(access, ahead):
    cookie = access.cookie(ANNA)
    ahead(COOKIE_SECONDS - 10)
    assert access.by_cookie(cookie) == "anna"
    ahead(COOKIE_SECONDS + 10)
    assert access.by_cookie(cookie) is None


@pytest.mark.parametrize("seconds", [-1, -3600])
def test_a_cookie_of_a_host_whose_clock_is_ahead_is_valid(access, ahead, seconds):
    cookie = access.cookie(ANNA)
    ahead(seconds)
    assert access.by_cookie(cookie) == "anna"


def test_a_cookie_cannot_be_changed(access):
    cookie = access.cookie(ANNA)
    for place in range(len(cookie)):
        other = "A" if cookie[place] != "A" else "B"
        forged = cookie[:place] + other + cookie[place + 1 :]
        # the last character of base64 has bits that do not count
        assert access.by_cookie(forged) is None or place == len(cookie) - 1
    assert access.by_cookie(cookie[:-1]) is None
