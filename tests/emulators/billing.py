"""Edge: the public catalog of Cloud Billing beside the emulated Compute Engine: SKUs in pages.

Rules from the reference of ``services.skus.list`` (see ``RULES``). Answers go through the client's own proto types.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.cloud import billing_v1

RULES = "https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list"
SERVICE = "6F81-5844-456A"
PATH = re.compile(r"/v1/services/(?P<service>[^/]+)/skus")


class Skus:
    """The SKUs of Compute Engine."""

    def __init__(self, refuse: Callable[..., Exception], page: int = 3) -> None:
        self.skus: list[dict[str, Any]] = []
        self._refuse, self._page = refuse, page

    def add(
        self, description: str, usd: float, regions: Sequence[str] = ("us-central1",), usage: str = "OnDemand",
        unit: str = "h", tiers: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """Put a SKU on sale; ``tiers`` are the rates of the tiers before the last."""
        rates = [
            {"startUsageAmount": number, "unitPrice": {
                "currencyCode": "USD", "units": str(int(rate)), "nanos": round((rate - int(rate)) * 1e9),
            }}
            for number, rate in enumerate((*tiers, usd))
        ]  # fmt: skip
        self.skus.append({
            "name": f"services/{SERVICE}/skus/{len(self.skus):04X}", "skuId": f"{len(self.skus):04X}",
            "description": description, "serviceRegions": list(regions),
            "category": {"resourceFamily": "Compute", "usageType": usage},
            "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": rates}}],
        })  # fmt: skip

    def answer(self, service: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Answer one page."""
        if service != SERVICE:
            raise self._refuse(404, "NOT_FOUND", f"Service {service} was not found.")
        if query.get("currencyCode", "USD") != "USD":
            raise self._refuse(400, "INVALID_ARGUMENT", "this catalog is in dollars")
        begin = int(query.get("pageToken") or 0)
        end = begin + min(self._page, int(query.get("pageSize", 5000)))
        answer = {"skus": self.skus[begin:end], "nextPageToken": str(end) if end < len(self.skus) else ""}
        billing_v1.ListSkusResponse.from_json(json.dumps(answer))
        return answer
