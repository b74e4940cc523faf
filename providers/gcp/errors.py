"""Pure decisions: every error of the Google Cloud client, mapped to the provider's error tree; only here.

Compute Engine tells an error in three ways: an HTTP status with a ``reason``, an error code inside a finished
operation, and a code on the last attempt of a managed group to start a machine. The reasons and codes are those of its
documents ("Troubleshooting API errors", "Troubleshooting resource availability"). GKE tells a status of gRPC by its
name, and why in an ``ErrorInfo``; that a cluster is in another operation, older answers tell by their text alone.

A fingerprint that does not match (412) says that somebody else changed the resource since we looked: nothing was done,
and the next look finds what there is now. So it is ``Busy``, and asked for again after that.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core import exceptions as google
from google.auth import exceptions as auth
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from providers.errors import (
    AnswerLost,
    Busy,
    Incompatible,
    Invalid,
    NoCapacity,
    NotFound,
    NotPermitted,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unavailable,
    WrongState,
)

_REASONS: Mapping[str, type[ProviderError]] = {
    "rateLimitExceeded": Throttled, "userRateLimitExceeded": Throttled, "quotaExceeded": QuotaExceeded,
    "limitExceeded": QuotaExceeded, "resourceNotReady": WrongState, "resourceInUseByAnotherResource": WrongState,
    "resourceInUse": WrongState, "alreadyExists": WrongState, "conditionNotMet": Busy, "notFound": NotFound,
    "forbidden": NotPermitted, "required": Invalid, "invalid": Invalid, "badRequest": Invalid, "invalidUsage": Invalid,
    "accessNotConfigured": NotPermitted, "insufficientPermissions": NotPermitted, "backendError": Unavailable,
    "insufficientCapacity": NoCapacity, "internalError": Unavailable,
    "resourceNotFound": NotFound, "unsupportedOperation": Incompatible,
    "CLUSTER_ALREADY_HAS_OPERATION": Busy, "failedPrecondition": WrongState, "FAILED_PRECONDITION": WrongState,
    "RESOURCE_EXHAUSTED": Throttled, "NOT_FOUND": NotFound, "PERMISSION_DENIED": NotPermitted, "ABORTED": Busy,
    "ALREADY_EXISTS": WrongState, "INVALID_ARGUMENT": Invalid, "UNAUTHENTICATED": NotPermitted, "INTERNAL": Unavailable,
    "UNAVAILABLE": Unavailable, "DEADLINE_EXCEEDED": Unavailable, "UNIMPLEMENTED": Incompatible,
    "SERVICE_DISABLED": NotPermitted, "IAM_PERMISSION_DENIED": NotPermitted, "RATE_LIMIT_EXCEEDED": Throttled,
}  # fmt: skip
_IN_ANOTHER_OPERATION = (
    "incompatible operation", "wait and try again once it", "currently being created, deleted, updated or repaired",
)  # fmt: skip

CODES: Mapping[str, type[ProviderError]] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": NoCapacity, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": NoCapacity,
    "REGION_RESOURCE_POOL_EXHAUSTED": NoCapacity, "RESOURCE_POOL_EXHAUSTED": NoCapacity, "STOCKOUT": NoCapacity,
    "GCE_STOCKOUT": NoCapacity, "IP_SPACE_EXHAUSTED": NoCapacity, "QUOTA_EXCEEDED": QuotaExceeded,
    "LIMIT_EXCEEDED": QuotaExceeded, "CONDITION_NOT_MET": WrongState, "RESOURCE_NOT_READY": WrongState,
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": WrongState, "RESOURCE_ALREADY_EXISTS": WrongState,
    "RESOURCE_NOT_FOUND": NotFound, "PERMISSIONS_ERROR": NotPermitted, "UNSUPPORTED_OPERATION": Incompatible,
    "INVALID_USAGE": Incompatible, "INVALID_FIELD_VALUE": Invalid, "INTERNAL_ERROR": Unavailable,
    "RESOURCE_OPERATION_RATE_EXCEEDED": Throttled, "RATE_LIMIT_EXCEEDED": Throttled,
}  # fmt: skip

_STATUSES: Mapping[int, type[ProviderError]] = {
    400: Invalid, 401: NotPermitted, 403: NotPermitted, 404: NotFound, 409: WrongState, 412: Busy, 429: Throttled,
}  # fmt: skip


@contextmanager
def mapped(mutation: bool, doing: str) -> Iterator[None]:
    """Turn whatever the client raises inside into an error of ``providers.errors``; ``doing`` names the call."""
    try:
        yield
    except google.GoogleAPICallError as error:
        raise of_answer(error, mutation, doing) from error
    except google.RetryError as error:
        raise Unavailable(f"{doing}: {_line(error)}") from error
    except auth.GoogleAuthError as error:
        raise NotPermitted(f"{doing}: {_line(error)} - configure credentials for Google Cloud") from error
    except requests.RequestException as error:
        raise of_transport(error, mutation, doing) from error


def disabled(error: ProviderError) -> bool:
    """Whether an API is not turned on in the project: then nothing that it serves is there."""
    return isinstance(error, NotPermitted) and any(
        one in str(error) for one in ("SERVICE_DISABLED", "accessNotConfigured")
    )


def of_answer(error: google.GoogleAPICallError, mutation: bool, doing: str) -> ProviderError:
    """Map an answer with an error status: by its reason where it has one that is known, else by the status."""
    told = " ".join(str(error.message or "").split())
    status = int(error.code or 500)
    if any(text in told for text in _IN_ANOTHER_OPERATION):
        return Busy(f"{doing}: {told}")
    reasons = [str(one.get("reason", "")) for one in error.errors if isinstance(one, Mapping)]
    for reason in (str(error.reason or ""), *reasons, _status(error)):
        if reason in _REASONS:
            return _made(_REASONS[reason], mutation, status, f"{doing}: {reason}: {told}")
    kind = _STATUSES.get(status, Unavailable if status >= 500 else Invalid)
    return _made(kind, mutation, status, f"{doing}: {status}: {told}")


def _status(error: google.GoogleAPICallError) -> str:
    """Read the name of a gRPC status from the body of an answer; the client keeps it nowhere else."""
    try:
        return str(error.response.json()["error"].get("status", ""))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def _made(kind: type[ProviderError], mutation: bool, status: int, text: str) -> ProviderError:
    # Whether a 500 had its effect is not known; a 503 was refused before it was looked at.
    if mutation and kind is Unavailable and status == 500:
        kind = AnswerLost
    advice: Mapping[type[ProviderError], str] = {
        NotPermitted: " - grant it, see deploy/iam/gcp",
        QuotaExceeded: " - ask Google for more or take a smaller offer",
    }
    return kind(text + advice.get(kind, ""))


def of_transport(error: requests.RequestException, mutation: bool, doing: str) -> ProviderError:
    """Map an error of the way to Google. What broke after a mutation may have been sent is ``AnswerLost``."""
    text = f"{doing}: {_line(error)}"
    if isinstance(error, requests.ConnectTimeout) or _never_sent(error) or not mutation:
        return Unavailable(text)
    return AnswerLost(f"{text} - describe before repeating the call")


def _never_sent(error: requests.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def of_codes(errors: Sequence[Any]) -> str:
    """Write the errors inside an operation, or of a last attempt, as "Class: CODE: message", "" where there is none."""
    for error in errors:
        code = str(getattr(error, "code", "") or "")
        kind = CODES.get(code, ProviderError)
        return f"{kind.__name__}: {code}: {' '.join(str(getattr(error, 'message', '')).split())}"
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
