"""Where the controller of `make run` listens. The local AWS is for this machine alone, whatever HOST is."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

LOOPBACK = "127.0.0.1"
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737); nothing is sent to it


class NotForEverybody(Exception):
    """Others could reach a controller that does not know them. The message is a sentence for people."""


@dataclass(frozen=True)
class Listening:
    host: str
    """The IPv4 address at which the controller listens; `0.0.0.0` stands for all of this machine."""

    @property
    def for_others(self) -> bool:
        return not IPv4Address(self.host).is_loopback

    @property
    def here(self) -> str:
        """The address at which this machine reaches the controller."""
        return LOOPBACK if IPv4Address(self.host).is_unspecified else self.host

    @property
    def shown(self) -> str:
        """The address at which others reach the controller, if they can, and otherwise this machine."""
        return own_address() if IPv4Address(self.host).is_unspecified else self.host

    @property
    def trusted_hosts(self) -> str:
        """The names by which the controller may be called, as the default of TRUSTED_HOSTS."""
        others = [socket.gethostname(), self.shown] if self.for_others else []
        return ",".join(dict.fromkeys(["localhost", *others]))


def listening(environment: Mapping[str, str] = os.environ) -> Listening:
    """Returns where HOST says that the controller should listen; only on this machine by default.

    Raises NotForEverybody when HOST is no IPv4 address, or when others could use the controller although
    neither API_TOKENS nor ALLOW_ANONYMOUS is set.
    """
    text = environment.get("HOST") or LOOPBACK
    try:
        found = Listening(str(IPv4Address(text)))
    except AddressValueError:
        raise NotForEverybody(
            f"HOST is {text!r}, but it should be an IPv4 address, such as 0.0.0.0"
        ) from None
    allowed = environment.get("API_TOKENS") or environment.get("ALLOW_ANONYMOUS") == "on"
    if found.for_others and not allowed:
        raise NotForEverybody(
            f"HOST is {text}, so others can reach the controller. Set API_TOKENS, or ALLOW_ANONYMOUS=on if"
            " all of them may use it"
        )
    return found


def own_address() -> str:
    """Returns the address of this machine in its network, or that of loopback if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)
        address: str = probe.getsockname()[0]
        return address
    return LOOPBACK
