"""With an endpoint, every client of Google Cloud speaks to it and to nothing else."""

import pytest

from providers.gcp.client import _CLIENTS, Client
from tests.providers.gcp.conftest import Project


@pytest.mark.parametrize("resource", _CLIENTS)
def test_no_client_leaves_the_endpoint(project: Project, resource: str):
    """The fixtures of every test refuse and count each name look-up beyond loopback; here the address is compared."""
    client: Client = project.gcp._permissions._client
    made = client._client(resource, False)
    assert made._transport._host == project.emulator.url


def test_all_that_the_provider_asks_at_the_start_and_for_prices_stays_on_loopback(
    project: Project, closed_sockets: list[str]
):
    project.gcp.excess()
    project.gcp.refresh_prices()
    project.gcp.labelled("scaleahead")
    project.gcp.describe(project.vm)
    assert closed_sockets == []
    assert {"projects/testIamPermissions", "skus/list", "clusters/list", "instances/get"} <= {
        call.method for call in project.emulator.calls
    }
