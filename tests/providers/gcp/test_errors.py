"""Every error of the client becomes one of ours."""

import pytest
import requests
from google.api_core import exceptions as google
from google.auth import exceptions as auth
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

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
from providers.gcp.errors import CODES, mapped, of_codes


def caught(error: Exception, mutation: bool = True) -> ProviderError:
    with pytest.raises(ProviderError) as found, mapped(mutation, "instances.stop"):
        raise error
    return found.value


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (403, "rateLimitExceeded", Throttled),
        (403, "quotaExceeded", QuotaExceeded),
        (403, "forbidden", NotPermitted),
        (400, "resourceNotReady", WrongState),
        (400, "invalid", Invalid),
        (404, "notFound", NotFound),
        (409, "alreadyExists", WrongState),
        (412, "conditionNotMet", Busy),
        (412, "somethingNew", Busy),
        (503, "backendError", Unavailable),
        (500, "somethingNew", AnswerLost),
        (429, "somethingNew", Throttled),
        (401, "somethingNew", NotPermitted),
        (418, "somethingNew", Invalid),
    ],
)
def test_answers_fall_by_their_reason_and_else_by_their_status(status: int, reason: str, kind: type[ProviderError]):
    error = google.from_http_status(status, "a\n text", errors=[{"reason": reason}])
    found = caught(error)
    assert type(found) is kind
    assert "\n" not in str(found)


@pytest.mark.parametrize("code", google._HTTP_CODE_TO_EXCEPTION)
def test_no_status_of_the_client_is_unmapped(code: int):
    assert isinstance(caught(google.from_http_status(int(code), "text")), ProviderError)


def test_what_broke_on_the_way_is_lost_only_if_it_was_sent():
    refused = requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "refused")))  # type: ignore[arg-type]
    cut = requests.ConnectionError(ProtocolError("Connection aborted."))
    assert type(caught(refused)) is Unavailable
    assert type(caught(requests.ConnectTimeout())) is Unavailable
    for error in (cut, requests.ReadTimeout()):
        assert type(caught(error)) is AnswerLost
        assert type(caught(error, mutation=False)) is Unavailable
    assert type(caught(auth.DefaultCredentialsError("none"))) is NotPermitted


class Told:
    """An error inside an operation."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message


def test_errors_inside_operations_name_their_class_for_whoever_reads_them_later():
    assert of_codes([]) == ""
    assert of_codes([Told("ZONE_RESOURCE_POOL_EXHAUSTED", "no\n stock")]) == (
        "NoCapacity: ZONE_RESOURCE_POOL_EXHAUSTED: no stock"
    )
    assert of_codes([Told("QUOTA_EXCEEDED", "x")]).startswith("QuotaExceeded: ")
    assert of_codes([Told("A_NEW_CODE", "x")]) == "ProviderError: A_NEW_CODE: x"
    assert {NoCapacity, QuotaExceeded, WrongState, Incompatible} <= set(CODES.values())
