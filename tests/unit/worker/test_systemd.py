import socket
from pathlib import Path

import pytest

from worker.systemd import notify_ready


@pytest.mark.parametrize("place", ["file", "abstract"])
def test_systemd_is_told(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address = str(tmp_path / "notify") if place == "file" else f"@{tmp_path.name}-{tmp_path.parent.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify_ready()
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
