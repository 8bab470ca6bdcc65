import pytest

from local.listening import NotForEverybody, listening

TOKENS = {"API_TOKENS": "ci-0123456789abcdef"}
ANYBODY = {"ALLOW_ANONYMOUS": "on"}


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.0.0.2"])
def test_on_this_machine_alone_nobody_needs_a_token(host):
    found = listening({"HOST": host})
    assert not found.for_others
    assert (found.here, found.trusted_hosts) == (host or "127.0.0.1", "localhost")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
@pytest.mark.parametrize("more", [{}, {"ALLOW_ANONYMOUS": "off"}, {"API_TOKENS": ""}])
def test_others_are_not_let_in_without_a_word(host, more):
    with pytest.raises(NotForEverybody, match="Set API_TOKENS, or ALLOW_ANONYMOUS=on"):
        listening({"HOST": host, **more})


@pytest.mark.parametrize("more", [TOKENS, ANYBODY])
def test_others_reach_it_by_its_address(more):
    found = listening({"HOST": "192.0.2.7", **more})
    assert found.for_others
    assert (found.here, found.shown) == ("192.0.2.7", "192.0.2.7")
    assert found.trusted_hosts.startswith("localhost,")
    assert found.trusted_hosts.endswith(",192.0.2.7")


def test_all_addresses_include_that_of_this_machine():
    found = listening({"HOST": "0.0.0.0", **TOKENS})
    assert found.here == "127.0.0.1"
    assert found.shown != "0.0.0.0"
    assert found.shown in found.trusted_hosts or found.shown == "127.0.0.1"


@pytest.mark.parametrize("host", ["lab-box", "::", "1.2.3"])
def test_what_is_no_address_is_named(host):
    with pytest.raises(NotForEverybody, match=f"HOST is '{host}', but it should be an IPv4 address"):
        listening({"HOST": host, **TOKENS})
