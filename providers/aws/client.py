"""Edge: the AWS SDK's clients of one account and region: one that may retry reads, one that sends a mutation once."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
from botocore.config import Config

from providers.aws.errors import code_of, mapped
from providers.budget import Budget
from providers.errors import Invalid, ProviderError, Throttled, Unavailable

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
MOST_PAGES = 500


class Client:
    """Calls AWS by service and method name. Every call spends from the budget and raises ``providers.errors`` only.

    The SDK retries reads. It never retries a mutation: it would repeat one whose effect is unknown, and take a lack
    of capacity, which AWS tells as a server error, for something that passes.
    """

    def __init__(
        self, region: str, budget: Budget, endpoint: str | None = None, credentials: Mapping[str, str] | None = None
    ) -> None:
        self.region = region
        self._budget = budget
        self._endpoint = endpoint
        self._session = boto3.session.Session(region_name=region, **(credentials or {}))
        self._made: dict[tuple[str, bool], Any] = {}
        # The SDK's clients may be shared by threads, but making one is not safe in several at once.
        self._making = threading.Lock()

    def read(self, service: str, method: str, **arguments: object) -> Any:
        """Make one read, repeated by the SDK where that may help."""
        return self._call(service, method, False, arguments)

    def pages(self, service: str, method: str, key: str, **arguments: object) -> Iterator[Any]:
        """Go through all pages of a read. Raises ``Unavailable`` for a list that goes round: it is not whole."""
        tokens: set[str] = set()
        more: dict[str, object] = {}
        for _ in range(MOST_PAGES):
            answer = self.read(service, method, **arguments, **more)
            yield from answer.get(key, ())
            token = answer.get("NextToken")
            if not token:
                return
            if token in tokens:
                break
            tokens.add(token)
            more = {"NextToken": token}
        raise Unavailable(f"{method} does not come to its last page - ask again")

    def mutate(self, service: str, method: str, **arguments: object) -> Any:
        """Make one mutation, sent at most once."""
        return self._call(service, method, True, arguments)

    def would_be_allowed(self, method: str, **arguments: object) -> bool:
        """Ask EC2 whether it would allow a call, without making it. Raises what speaks against it otherwise."""
        try:
            self._call("ec2", method, False, {**arguments, "DryRun": True})
        except ProviderError as error:
            answer = code_of(error)
            if answer not in ("DryRunOperation", "UnauthorizedOperation"):
                raise
            return answer == "DryRunOperation"
        raise Invalid(f"{method} was asked for as a dry run and was made")

    def _call(self, service: str, method: str, mutation: bool, arguments: Mapping[str, object]) -> Any:
        self._budget.spend(method)
        try:
            with mapped(mutation, method):
                answer = getattr(self._client(service, mutation), method)(**arguments)
        except Throttled:
            self._budget.refused(method)
            raise
        self._budget.answered(method)
        return answer

    def _client(self, service: str, mutation: bool) -> Any:
        key = (service, mutation)
        with self._making:
            return self._made.get(key) or self._make(key, service, mutation)

    def _make(self, key: tuple[str, bool], service: str, mutation: bool) -> Any:
        retries = {"total_max_attempts": 1} if mutation else {"total_max_attempts": 4, "mode": "standard"}
        config = Config(
            connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries, max_pool_connections=16
        )
        with mapped(mutation, service):
            self._made[key] = self._session.client(service, endpoint_url=self._endpoint, config=config)
        return self._made[key]
