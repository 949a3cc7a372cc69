"""The variables of `python -m kirsch.sql.postgres`, read."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.sql.postgres import PostgresError, Settings


def test_defaults_are_the_official_images():
    settings = Settings.from_environment({})
    assert (settings.user, settings.database, settings.password) == ("postgres", "postgres", None)
    assert (settings.address, settings.port) == ("127.0.0.1", 5432)
    assert settings.data == Path.cwd() / "data"


def test_the_database_is_named_as_its_user():
    assert Settings.from_environment({"POSTGRES_USER": "notes"}).database == "notes"


def test_data_lies_in_the_first_state_directory():
    assert Settings.from_environment({"STATE_DIRECTORY": "/a:/b"}).data == Path("/a/data")
    assert Settings.from_environment({"STATE_DIRECTORY": "/a", "PGDATA": "/c"}).data == Path("/c")


def test_a_password_comes_from_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("hush ü\n")
    assert Settings.from_environment({"POSTGRES_PASSWORD_FILE": str(file)}).password == "hush ü"


def test_a_password_is_not_shown_by_repr():
    assert "hush" not in repr(Settings.from_environment({"POSTGRES_PASSWORD": "hush"}))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"POSTGRES_PASSWORD": "a", "POSTGRES_PASSWORD_FILE": "/b"}, "both set"),
        ({"POSTGRES_PASSWORD_FILE": "/nowhere"}, "/nowhere cannot be read: No such file"),
        ({"POSTGRES_PASSWORD_FILE": "/dev/null"}, "is empty"),
        ({"POSTGRES_PASSWORD": "a\nb"}, "more than one line"),
        ({"POSTGRES_USER": "a" * 64}, "POSTGRES_USER is longer than the 63 bytes"),
        ({"POSTGRES_DB": "a\nb"}, "POSTGRES_DB holds a character"),
        ({"PGPORT": "0"}, "PGPORT=0 is not a port"),
        ({"PGPORT": "x"}, "PGPORT=x is not a port"),
        ({"POSTGRES_INITDB_ARGS": "'"}, "POSTGRES_INITDB_ARGS"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(environment, message):
    with pytest.raises(PostgresError, match=message) as error:
        Settings.from_environment(environment)
    assert "\n" not in str(error.value)


VARIABLES = ("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "PGPORT", "PGDATA", "POSTGRES_INITDB_ARGS")
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@given(st.dictionaries(st.sampled_from(VARIABLES), TEXT))
def test_any_environment_gives_settings_or_one_line(environment):
    with contextlib.suppress(PostgresError):
        assert Settings.from_environment(environment).port


@given(TEXT)
def test_names_are_printable_or_refused(name):
    try:
        settings = Settings.from_environment({"POSTGRES_USER": name})
    except PostgresError as error:
        message = str(error)
    else:
        message = settings.user
    assert "\n" not in message
