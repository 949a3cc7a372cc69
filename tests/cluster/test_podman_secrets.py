"""Which of podman's secrets are left of containers that are no more."""

from pathlib import Path

from kirsch.cluster.runtime.systemd.podman import stale

DESCRIBED = """\
0a kirsch-book-2-container-57b5019e0adfbeb1 cat /run/kirsch/units/book@2.container.secrets/=WORD
0b kirsch-book-1-container-11aa019e0adfbeb2 cat /run/kirsch/units/book@1.container.secrets/=WORD
0c kirsch-run-7f-WORD cat /run/kirsch-run-7f/WORD
0d kirsch-of-a-person 
0e somebodys cat /run/nowhere
0f kirsch-of-another <no value>
"""  # noqa: W291 - podman says nothing there


def test_what_has_no_file_is_left_and_others_secrets_are_let_be(tmp_path: Path):
    folder = tmp_path / "run/kirsch/units/book@1.container.secrets"
    folder.mkdir(parents=True)
    (folder / "=WORD").touch()
    assert list(stale(DESCRIBED, tmp_path)) == ["0a"]
    assert list(stale("\n", tmp_path)) == []
