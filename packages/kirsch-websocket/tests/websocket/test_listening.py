"""Where servers listen: names, and the paths of Unix sockets."""

import os
import socket
import stat

import pytest

from kirsch.websocket import Url
from kirsch.websocket.listening import Place, listener, peer_name, unix_socket


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("127.0.0.1", 5000), "127.0.0.1:5000"),
        (("::1", 5000, 0, 0), "[::1]:5000"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_a_peer_is_shown(address, shown):
    assert peer_name(address) == shown


@pytest.mark.parametrize(
    ("address", "secure", "url"),
    [
        (("127.0.0.1", 80), False, "ws://127.0.0.1:80/"),
        (("::1", 443, 0, 0), True, "wss://[::1]:443/"),
        ("/run/a.sock", False, "ws+unix:///run/a.sock"),
    ],
)
def test_a_place_has_a_url(address, secure, url):
    assert Place(address, secure).url == url


def test_the_url_of_a_path_leads_there_whatever_is_in_it():
    path = "/run/a:b 100%/socket"
    assert Url.parse(Place(path, secure=False).url).unix == path


@pytest.mark.parametrize("host", ["", None])
def test_no_host_is_every_address(host):
    with listener(host, 0) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"


def test_a_file_that_is_no_socket_stays(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        unix_socket(str(path))
    assert path.read_text() == "mine"


def test_a_socket_that_is_listened_on_stays(tmp_path):
    path = str(tmp_path / "socket")
    with unix_socket(path) as listening:
        listening.listen(0)
        inode = os.stat(path).st_ino
        with socket.socket(socket.AF_UNIX) as waits:
            waits.connect(path)
            # Its backlog is full: nobody else may connect, and nobody may wait for that.
            with pytest.raises(OSError, match="in use"):
                unix_socket(path)
        assert os.stat(path).st_ino == inode


def test_a_socket_nobody_listens_on_is_replaced(tmp_path):
    path = str(tmp_path / "socket")
    unix_socket(path).close()
    with unix_socket(path) as listening:
        assert listening.getsockname() == path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_path_is_removed_only_by_whom_it_is(tmp_path):
    path = str(tmp_path / "socket")
    with unix_socket(path):
        first = Place(path, secure=False)
    # Kept, lest its inode's number is given again.
    os.rename(path, f"{path}.old")
    with unix_socket(path):
        second = Place(path, secure=False)
    first.remove()
    assert os.path.exists(path)
    second.remove()
    assert not os.path.exists(path)
    second.remove()
