"""What a server's answers to generated requests are held to, by its OpenAPI document."""

from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

# Not that valid data is accepted: no schema can say all that makes it so, as a note's version or a unit file.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
