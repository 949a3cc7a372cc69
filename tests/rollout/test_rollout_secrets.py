"""Secrets that `kirsch up --on` makes: by a real kirschd."""

from pathlib import Path

import pytest
from tests.cluster.live import kirschd_in

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.application import Application
from kirsch.cluster.application.plan import MakeSecret, Plan
from kirsch.cluster.application.target import Target
from kirsch.cluster.provision.record import ClusterRecord


class Unseen:
    """Shows what is done to nobody."""

    def begun(self, name: str) -> None: ...

    def done(self, name: str, seconds: float) -> None: ...

    def undoing(self, name: str) -> None: ...


def test_one_that_somebody_has_set_meanwhile_is_it(tmp_path: Path):
    with kirschd_in(tmp_path) as kirschd:
        target = Target(ClusterRecord("lab", "", "", ""), Client(kirschd.socket))
        plan = Plan(Application("shop", tmp_path, {}), (MakeSecret("db"), MakeSecret("ours")), {})
        set_ = kirschd.ask("PUT", "/kirsch/v1/secrets/db", {"value": "aHVzaA=="})
        assert set_.status == 201
        assert target.carry_out(plan, Unseen()) == ([], None)
        assert target.secrets() >= {"db", "ours"}
        kept = tmp_path / ".kirsch/secrets"
        assert (kept / "db").read_bytes() == b"hush"
        assert len((kept / "ours").read_bytes()) >= 32
        # What is wrong besides is told.
        with pytest.raises(ClientError):
            target.carry_out(Plan(plan.application, (MakeSecret("no/name"),), {}), Unseen())
