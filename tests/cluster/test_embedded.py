"""The state folder of `kirsch up`, which another user may have prepared for root."""

import os
import pwd
from pathlib import Path

import pytest

from kirsch.cluster.application import embedded


def test_a_link_is_no_state_folder(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".kirsch").symlink_to("elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        embedded._log(tmp_path / ".kirsch", None)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_link_is_no_log(tmp_path: Path):
    (tmp_path / ".kirsch").mkdir()
    (tmp_path / ".kirsch" / "kirschd.log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        embedded._log(tmp_path / ".kirsch", None)
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_only_what_root_left_is_given(tmp_path: Path):
    user = pwd.getpwnam("nobody")
    os.chown(tmp_path, user.pw_uid, user.pw_gid)
    state = tmp_path / ".kirsch"
    (state / "sub").mkdir(parents=True)
    (outside := tmp_path / "outside").touch()
    (state / "hard").hardlink_to(outside)
    (state / "sub" / "left").touch()
    os.close(embedded._log(state, user))
    assert outside.stat().st_uid == 0
    for path in (state, state / "sub", state / "sub" / "left", state / "kirschd.log"):
        assert path.stat().st_uid == user.pw_uid
