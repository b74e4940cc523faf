"""Every described route against requests made up from its own description."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.test_auth import MATRIX

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize(("verb", "path"), [(v, p) for v, p, _ in MATRIX], ids=[f"{v} {p}" for v, p, _ in MATRIX])
def test_answers_are_as_described(app: Any, world: Any, verb: str, path: str) -> None:
    world.fill()
    world.services.bus.close()  # the stream of events ends at once
    described = schemathesis.openapi.from_asgi("/openapi.json", app)

    @given(case=described[path][verb].as_strategy())
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        answer = case.call(headers={"Authorization": "Bearer sa_admin"})
        case.validate_response(answer, checks=CHECKS)

    ask()
