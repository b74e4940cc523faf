"""Every error of the SDK becomes one of ours."""

from pathlib import Path

import pytest
from botocore import exceptions as boto
from botocore import session
from botocore.exceptions import BotoCoreError, ClientError

from providers.aws.errors import kind_of, mapped
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

CODES = Path(__file__).with_name("documented_codes.txt").read_text().split()


def answered(code: str, message: str = "a text", status: int = 400) -> ClientError:
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, "StopInstances")


def caught(error: Exception, mutation: bool) -> ProviderError:
    with pytest.raises(ProviderError) as found, mapped(mutation, "stop_instances"):
        raise error
    return found.value


def test_the_list_is_the_documented_one():
    assert len(CODES) > 300
    assert {"InsufficientInstanceCapacity", "InvalidInstanceAttributeValue", "VcpuLimitExceeded"} <= set(CODES)


def test_no_documented_code_is_unmapped():
    assert [code for code in CODES if kind_of(code) is None] == []


def test_no_error_of_eks_is_unmapped():
    """Those that the SDK's own description lists, for the calls that are made and for all others."""
    shapes = session.get_session().get_service_model("eks").error_shapes
    assert len(shapes) >= 14
    assert [one.name for one in shapes if kind_of(one.name) is None] == []


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientInstanceCapacity", 500, NoCapacity),
        ("VcpuLimitExceeded", 400, QuotaExceeded),
        ("InstanceLimitExceeded", 400, QuotaExceeded),
        ("IncorrectInstanceState", 400, WrongState),
        ("InvalidInstanceAttributeValue", 400, Incompatible),
        ("Unsupported", 400, Incompatible),
        ("UnsupportedOperation", 400, Incompatible),
        ("InvalidInstanceID.NotFound", 400, NotFound),
        ("InvalidInstanceID.Malformed", 400, Invalid),
        ("UnauthorizedOperation", 403, NotPermitted),
        ("ExpiredToken", 400, NotPermitted),
        ("RequestExpired", 400, NotPermitted),
        ("RequestLimitExceeded", 503, Throttled),
        ("Unavailable", 503, Unavailable),
        ("ResourceInUseFault", 400, WrongState),
        ("ScalingActivityInProgressFault", 400, Throttled),
        ("ResourceInUseException", 409, Busy),
        ("InvalidRequestException", 400, WrongState),
        ("InvalidParameterException", 400, Invalid),
        ("ClientException", 400, Invalid),
        ("ResourceNotFoundException", 404, NotFound),
        ("ServerException", 500, AnswerLost),
        ("ServiceUnavailableException", 503, Unavailable),
        ("ThrottlingException", 429, Throttled),
        ("AccessDeniedException", 403, NotPermitted),
        ("ATotallyNewCode", 503, Unavailable),
        ("ATotallyNewCode", 400, Invalid),
    ],
)
def test_codes_fall_where_the_daemon_expects_them(code: str, status: int, kind: type[ProviderError]):
    assert type(caught(answered(code, status=status), mutation=True)) is kind


def test_a_group_that_is_not_there_is_told_by_its_message_alone():
    assert kind_of("ValidationError", "AutoScalingGroup name not found - x") is NotFound
    assert kind_of("ValidationError", "1 validation error detected") is Invalid


def test_a_server_error_after_a_mutation_leaves_its_effect_open():
    assert type(caught(answered("InternalError", status=500), mutation=True)) is AnswerLost
    assert type(caught(answered("InternalError", status=500), mutation=False)) is Unavailable


@pytest.mark.parametrize(
    ("error", "mutated", "read"),
    [
        (boto.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), Unavailable, Unavailable),
        (boto.ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"), Unavailable, Unavailable),
        (boto.ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), AnswerLost, Unavailable),
        (boto.ConnectionClosedError(endpoint_url="http://127.0.0.1:1"), AnswerLost, Unavailable),
        (boto.ResponseStreamingError(error="cut"), AnswerLost, Unavailable),
        (boto.NoCredentialsError(), NotPermitted, NotPermitted),
        (boto.ParamValidationError(report="x"), Invalid, Invalid),
    ],
)
def test_what_broke_on_the_way_is_lost_only_if_it_was_sent(
    error: BotoCoreError, mutated: type[ProviderError], read: type[ProviderError]
):
    assert type(caught(error, mutation=True)) is mutated
    assert type(caught(error, mutation=False)) is read


@pytest.mark.fault("C15")
def test_an_error_is_one_line_that_says_what_to_do():
    text = str(caught(answered("RequestExpired", "Request has\n expired."), mutation=False))
    assert text == "stop_instances: RequestExpired: Request has expired. - compare this host's clock with the true time"
    assert "deploy/iam/aws" in str(caught(answered("UnauthorizedOperation", status=403), mutation=True))
