"""Edge: the Google Cloud clients of one project. Nothing is retried, and no operation is waited for.

All speak REST, also that of GKE, which has gRPC beside it: one way to a cloud is enough, and errors come in one form.

``operation.result()`` of the library polls through a client with the default endpoint and calls an operation with an
error inside a success; so every mutation is made in its ``_unary`` form, and its operation is asked about by name.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import google.auth
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import billing_v1, compute_v1, container_v1

from providers.budget import Budget
from providers.errors import Throttled
from providers.gcp.errors import mapped

TIMEOUT_SECONDS = 20.0
RESOURCES = "https://cloudresourcemanager.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

_CLIENTS: dict[str, Callable[..., Any]] = {
    "instances": compute_v1.InstancesClient,
    "machine_types": compute_v1.MachineTypesClient,
    "regions": compute_v1.RegionsClient,
    "projects": compute_v1.ProjectsClient,
    "zone_operations": compute_v1.ZoneOperationsClient,
    "region_operations": compute_v1.RegionOperationsClient,
    "groups": compute_v1.InstanceGroupManagersClient,
    "region groups": compute_v1.RegionInstanceGroupManagersClient,
    "templates": compute_v1.InstanceTemplatesClient,
    "region templates": compute_v1.RegionInstanceTemplatesClient,
    "clusters": container_v1.ClusterManagerClient,
    "billing": billing_v1.CloudCatalogClient,
}
_COMPUTE = frozenset(_CLIENTS) - {"clusters", "billing"}
"""Whose requests name the project, and whose mutations have a form that gives the bare operation."""
_ALSO_REGIONAL = ("groups", "templates")


class Client:
    """Calls Compute Engine, GKE and the price list. Spends from the budget, raises ``providers.errors`` only.

    Of clusters, a ``name`` or ``parent`` is given from the project on: ``locations/...``.
    """

    def __init__(self, project: str, budget: Budget, endpoint: str | None = None) -> None:
        """Take the project; with an ``endpoint``, an emulator's, no credentials are looked for."""
        self.project = project
        self._budget = budget
        self._endpoint = endpoint
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def read(self, resource: str, method: str, /, **arguments: object) -> Any:
        """Make one read."""
        return self._call(resource, method, False, arguments)

    def pages(self, resource: str, method: str, /, **arguments: object) -> Iterator[Any]:
        """Go through all pages of a list."""
        with mapped(False, f"{resource}.{method}"):
            yield from self._call(resource, method, False, arguments)

    def mutate(self, resource: str, method: str, /, **arguments: object) -> Any:
        """Make one mutation, sent at most once; gives the operation as Google answered it."""
        return self._call(resource, f"{method}_unary" if resource in _COMPUTE else method, True, arguments)

    def permissions(self, wanted: Sequence[str]) -> frozenset[str]:
        """Ask which of some permissions the credentials have on the project."""
        api = "projects.testIamPermissions"
        self._budget.spend(api)
        address = f"{self._endpoint or RESOURCES}/v1/projects/{self.project}:testIamPermissions"
        with mapped(False, api):
            told = self._session().post(address, json={"permissions": list(wanted)}, timeout=TIMEOUT_SECONDS)
            if told.status_code != 200:
                raise from_http_response(told)  # type: ignore[no-untyped-call]
            return frozenset(told.json().get("permissions", ()))

    def _session(self) -> AuthorizedSession:
        with self._making:
            if "session" not in self._made:
                anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
                credentials = anonymous if self._endpoint else google.auth.default(scopes=SCOPES)[0]
                self._made["session"] = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
            session: AuthorizedSession = self._made["session"]
            return session

    def _call(self, resource: str, method: str, mutation: bool, arguments: dict[str, object]) -> Any:
        api = f"{resource}.{method.removesuffix('_unary')}"
        self._budget.spend(api)
        request = self._request(resource, arguments)
        try:
            with mapped(mutation, api):
                answer = getattr(self._client(resource, "region" in arguments), method)(
                    request=request, retry=None, timeout=TIMEOUT_SECONDS
                )
        except Throttled:
            self._budget.refused(api)
            raise
        self._budget.answered(api)
        return answer

    def _request(self, resource: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """Name the project: for Compute Engine apart, for GKE at the beginning of a name, for the price list not."""
        if resource in _COMPUTE:
            return {"project": self.project, **arguments}
        if resource != "clusters":
            return dict(arguments)
        named = {key: f"projects/{self.project}/{arguments[key]}" for key in ("name", "parent") if key in arguments}
        return {**arguments, **named}

    def _client(self, resource: str, regional: bool) -> Any:
        if regional and resource in _ALSO_REGIONAL:
            resource = f"region {resource}"
        with self._making:
            if resource not in self._made:
                with mapped(False, resource):
                    self._made[resource] = _CLIENTS[resource](transport="rest", **self._options())
            return self._made[resource]

    def _options(self) -> dict[str, object]:
        if self._endpoint is None:
            return {}
        return {
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
            "client_options": ClientOptions(api_endpoint=self._endpoint),
        }
