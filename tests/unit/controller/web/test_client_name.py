import pytest

from controller.web.client_name import address

SOCKET = ""


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("127.0.0.1", "198.51.100.1", "127.0.0.1"),
        (SOCKET, "198.51.100.1", "198.51.100.1"),
        (SOCKET, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (SOCKET, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (SOCKET, "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", None, "fe80::/64"),
        ("::ffff:192.0.2.7", None, "192.0.2.7"),
        (SOCKET, None, ""),
        (SOCKET, "unknown", "unknown"),
    ],
)
def test_the_address_is_the_clients_own(peer, header, client):
    environ = {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": header} if header else {})
    assert address(environ) == client
