"""/api/openapi.json is true: schemathesis asks the real application all that it describes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi import checks
from tests.openapi import CHECKS

pytestmark = [pytest.mark.services, pytest.mark.slow]

WEBAPP = Path(__file__).parents[2] / "examples" / "notes" / "webapp"


def webapp(name: str) -> ModuleType:
    """A module of the example, which is no package of this repository's path."""
    if "webapp" not in sys.modules:
        spec = importlib.util.spec_from_file_location("webapp", WEBAPP / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["webapp"] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"webapp.{name}")


# What is made up to be wrong is at times too large, and refused for that.
REFUSED = {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}

schema = schemathesis.openapi.from_dict(
    webapp("openapi").document(), config=schemathesis.Config.from_dict(REFUSED)
)


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_every_answer_is_documented(case: schemathesis.Case, application: Any):
    # OPTIONS asks what could be done, of any path.
    left_out = [checks.negative_data_rejection] if case.method == "OPTIONS" else []
    case.call_and_validate(base_url=f"{application.url}/api", checks=CHECKS, excluded_checks=left_out)


def test_the_document_is_served(application: Any):
    answer = application("GET", "/api/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == schema.raw_schema
