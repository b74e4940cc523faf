"""Pure decisions: what GKE says is wrong with a node pool or an operation on it, and what that means for its size.

The codes are those of ``StatusCondition.Code`` in the GKE API reference; a test holds the table to the client's own
list. An operation that failed tells by a condition, by the code of its error, or by a message that holds a code of
Compute Engine.
"""

from collections.abc import Mapping

from providers.errors import (
    Incompatible,
    Invalid,
    NoCapacity,
    NotPermitted,
    ProviderError,
    QuotaExceeded,
    Transient,
    WrongState,
)
from providers.gcp.errors import CODES
from providers.gcp.rules import Answer

KINDS: Mapping[str, type[ProviderError]] = {
    "GCE_STOCKOUT": NoCapacity, "GCE_QUOTA_EXCEEDED": QuotaExceeded,
    # Something that the nodes are made of is missing: no growth can succeed before a person mends it.
    "GKE_SERVICE_ACCOUNT_DELETED": NotPermitted, "NODE_SERVICE_ACCOUNT_MISSING_PERMISSIONS": NotPermitted,
    "CLOUD_KMS_KEY_ERROR": Incompatible, "CLOUD_KMS_KEY_DESTROYED": Incompatible,
    # It passes, or it has nothing to do with the size.
    "CA_EXPIRING": Transient, "SET_BY_OPERATOR": Transient, "UNKNOWN": Transient,
}  # fmt: skip

_FOR_A_PERSON = (NotPermitted, Incompatible)
# google.rpc.Code by its number, where the operation tells no more.
_RPC: Mapping[int, type[ProviderError]] = {
    3: Invalid, 7: NotPermitted, 8: QuotaExceeded, 9: WrongState, 14: Transient,
}  # fmt: skip


def hindrance(pool: Answer) -> ProviderError | None:
    """Find what keeps a node pool from any growth until a person mends it. Shortage may have passed by now."""
    for one in pool.conditions:
        kind = KINDS.get(one.code.name, Transient)
        if kind in _FOR_A_PERSON:
            return kind(f"node pool {pool.name} is {pool.status.name}: {one.code.name}: {_line(one.message)}")
    return None


def fault_of(operation: Answer) -> str:
    """Say what a finished operation failed by, its class of error first; "" if it did not fail."""
    for one in (*operation.nodepool_conditions, *operation.cluster_conditions):
        kind = KINDS.get(one.code.name, Transient)
        if kind is not Transient:
            return f"{kind.__name__}: {one.code.name}: {_line(one.message)}"
    message = _line(operation.error.message)
    if not operation.error.code and not message:
        return ""
    # The longest code first: one may begin with another.
    for code in sorted(CODES, key=len, reverse=True):
        if code in message:
            return f"{CODES[code].__name__}: {message}"
    kind = _RPC.get(int(operation.error.code), ProviderError)
    return f"{kind.__name__}: {message}"


def _line(text: str) -> str:
    return " ".join(str(text).split())
