"""Pure decisions: every error of the AWS SDK, mapped to the provider's error tree. Nothing else knows AWS's codes.

The codes are those of AWS's own lists: "Error codes for the Amazon EC2 API", "Common errors" of Auto Scaling and
Service Quotas, and the errors of the EKS API. A code that is not named falls to its family by the rules of
``_by_shape``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

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

_NAMED: Mapping[type[ProviderError], tuple[str, ...]] = {
    Throttled: (
        "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
        "RequestThrottledException", "TooManyRequestsException", "EC2ThrottledException", "PriorRequestNotComplete",
        "BandwidthLimitExceeded", "SnapshotCreationPerVolumeRateExceeded", "ConcurrentTagAccess",
        "ScalingActivityInProgress", "ScalingActivityInProgressFault", "ResourceContention", "ResourceContentionFault",
        "IdempotentCallInProgressFault",
    ),
    Unavailable: (
        "Unavailable", "ServiceUnavailable", "ServiceUnavailableException", "ServiceException",
        "InternalServerError", "ServiceLinkedRoleFailure", "ResourcePropagationDelayException",
    ),
    # EKS makes one change of a node group at a time; the next has to wait.
    Busy: ("ResourceInUseException",),
    NoCapacity: (
        "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
        "InsufficientReservedInstancesCapacity", "InsufficientCapacity", "InsufficientCapacityOnHost",
        "InsufficientFreeAddressesInSubnet", "InsufficientAddressCapacity", "InsufficientVolumeCapacity",
        "ReservationCapacityExceeded", "ReservedInstancesUnavailable", "UnavailableHostRequirements",
        "SpotMaxPriceTooLow", "LimitPriceExceeded", "UnfulfillableCapacity", "MaxScheduledInstanceCapacityExceeded",
        "ScheduledInstanceSlotUnavailable",
    ),
    QuotaExceeded: (
        "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "ResourceCountExceeded",
        "RequestResourceCountExceeded", "MaxSpotFleetRequestCountExceeded", "ReservedInstancesCountExceeded",
        "QuotaExceededException", "TooManyTagsException",
    ),
    Incompatible: (
        "InvalidInstanceAttributeValue", "InvalidInstanceType", "InvalidInstanceFamily", "NonEBSInstance",
        "BootForVolumeTypeUnsupported", "EncryptedVolumesNotSupported", "IncompatibleHostRequirements",
        "InstanceTypeNotSupported", "UnsupportedAvailabilityZoneException",
        "NetworkInterfaceNotSupportedException", "InvalidInterface.IpAddressLimitExceeded",
        "VolumeTypeNotAvailableInZone", "DisallowedForDedicatedTenancyNetwork", "UnknownVolumeType",
        "UnknownPrincipalType.Unsupported",
        "InstanceCreditSpecification.NotSupported", "NotExportable", "CustomerKeyHasBeenRevoked",
    ),
    NotPermitted: (
        "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "DependencyAccessDeniedException",
        "AWSServiceAccessNotEnabledException", "AuthFailure", "Blocked", "OptInRequired", "PendingVerification",
        "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException",
        "SignatureDoesNotMatch", "RequestExpired", "InvalidSecurity.RequestHasExpired", "MissingAuthenticationToken",
        "IncompleteSignature", "OperationNotPermitted", "NotAuthorized", "InaccessibleStorageLocation",
        "LogDestinationPermissionIssue", "DecodeAuthorizationMessage",
    ),
    WrongState: (
        "IncorrectInstanceState", "IncorrectState", "IncorrectModificationState", "IncorrectSpotRequestState",
        "IdempotentInstanceTerminated", "InstanceRefreshInProgress", "InstanceRefreshInProgressFault",
        "ResourceInUse", "ResourceInUseFault", "DependencyViolation", "BundlingInProgress",
        "CreditSpecificationUpdateInProgress", "FleetNotInModifiableState", "AlreadyExistsFault", "CannotDelete",
        "IrreversibleInstanceRefreshFault", "DeleteConversionTaskError", "ScheduledInstanceSlotNotOpen",
        "ClientVpnEndpointAssociationExists", "DefaultSubnetAlreadyExistsInAvailabilityZone",
        "ExistingVpcEndpointConnections", "HostAlreadyCoveredByReservation", "InstanceAlreadyLinked",
        "InterfaceInUseByTrafficMirrorSession", "InterfaceInUseByTrafficMirrorTarget", "ResourceAlreadyExistsException",
        "EIPMigratedToVpc", "InvalidRequestException", "InvalidStateException",
    ),
    NotFound: (
        "InvalidInstanceID", "InvalidGroup.NotFound", "ResourceNotFoundException", "NoSuchResourceException",
        "NotFoundException", "NoSuchVersion", "Gateway.NotAttached", "InvalidHostId", "DefaultVpcDoesNotExist",
        "ActiveInstanceRefreshNotFoundFault",
    ),
    Invalid: (
        "DiskImageSizeTooLarge", "DuplicateSubnetsInSameZone", "LegacySecurityGroup", "ZonesMismatched",
        "ScheduledInstanceParameterMismatch", "SnapshotCopyUnsupported.InterRegion", "VolumeIOPSLimit",
        "VPCIdNotSpecified", "VPCResourceNotSpecified", "ClientException", "BadRequestException",
    ),
}  # fmt: skip

_TYPES = {code: kind for kind, codes in _NAMED.items() for code in codes}

# Whether a 500 had its effect is not known: only a description tells.
_UNKNOWN_EFFECT = (
    "InternalError", "InternalFailure", "ServerInternal", "ServerException", "RequestTimeout",
    "RequestTimeoutException",
)  # fmt: skip

_SHAPES: tuple[tuple[type[ProviderError], tuple[str, ...]], ...] = (
    (Invalid, ("Malformed",)),
    (NotFound, ("NotFound", "NotFoundException", "NoFound")),
    (QuotaExceeded, ("LimitExceeded", "LimitExceededException", "LimitExceededFault")),
    (NoCapacity, ("InsufficientCapacity",)),
    (WrongState, ("InUse", "InUseException", "AlreadyExists", "AlreadyAssociated", "AlreadyAssigned", "State")),
    (WrongState, ("Conflict", "Duplicate")),
    (Incompatible, ("Unsupported", "NotSupported", "UnsupportedException", "UnsupportedOperation")),
)  # fmt: skip

_SENT_NOTHING = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_NO_CREDENTIALS = (
    boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError, boto.TokenRetrievalError,
    boto.NoAuthTokenError, boto.UnauthorizedSSOTokenError,
)  # fmt: skip
_MALFORMED = (boto.ParamValidationError, boto.ValidationError, boto.NoRegionError, boto.InvalidRegionError)


@contextmanager
def mapped(mutation: bool, doing: str) -> Iterator[None]:
    """Turn whatever the SDK raises inside into an error of ``providers.errors``; ``doing`` names the call."""
    try:
        yield
    except ClientError as error:
        raise of_client(error, mutation, doing) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise of_transport(error, mutation, doing) from error


def kind_of(code: str, message: str = "", status: int = 400) -> type[ProviderError] | None:
    """Give the class of a code of AWS; ``None`` for one that belongs to no family known here."""
    if code in _UNKNOWN_EFFECT:
        return AnswerLost
    if code == "ValidationError" and ("not found" in message or "does not exist" in message):
        return NotFound  # Auto Scaling has no code of its own for a group that is not there
    found = _TYPES.get(code)
    return found if found is not None else _by_shape(code, status)


def _by_shape(code: str, status: int) -> type[ProviderError] | None:
    for kind, endings in _SHAPES:
        if code.endswith(endings):
            return kind
    if code.startswith("Insufficient"):
        return NoCapacity
    if code.startswith("Unsupported"):
        return Incompatible
    if status >= 500:
        return Unavailable
    if status == 429:
        return Throttled
    known = ("Invalid", "Missing", "Malformed", "Unknown", "Validation", "Idempotent", "DryRun", "IllegalArgument")
    return Invalid if code.startswith(known) else None


def of_client(error: ClientError, mutation: bool, doing: str) -> ProviderError:
    """Map an error that AWS answered with. Without a known code it is ``Invalid``, so that nothing repeats it."""
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), " ".join(str(told.get("Message", "")).split())
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
    kind = kind_of(code, message, status) or Invalid
    if kind is AnswerLost and not mutation:
        kind = Unavailable
    return kind(f"{doing}: {code}: {message}{_advice(code)}")


def code_of(error: ProviderError) -> str:
    """Give AWS's own code of a mapped error, "" for one that AWS did not answer with."""
    told = error.__cause__
    return str(told.response.get("Error", {}).get("Code", "")) if isinstance(told, ClientError) else ""


def _advice(code: str) -> str:
    if code in ("RequestExpired", "InvalidSecurity.RequestHasExpired", "SignatureDoesNotMatch"):
        return " - compare this host's clock with the true time"
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
        return " - renew the credentials"
    if code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
        return " - grant it, see deploy/iam/aws"
    if code in ("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"):
        return " - ask AWS for a higher quota or take a smaller offer"
    return ""


def of_transport(error: BotoCoreError | ResponseParserError, mutation: bool, doing: str) -> ProviderError:
    """Map an error of the way to AWS, an answer that cannot be read (cut off, or a proxy's) included.

    What broke after a mutation may have been sent is ``AnswerLost``.
    """
    text = f"{doing}: {' '.join(str(error).split())}"
    if isinstance(error, _NO_CREDENTIALS):
        return NotPermitted(f"{text} - configure credentials for AWS")
    if isinstance(error, _MALFORMED):
        return Invalid(text)
    if isinstance(error, _SENT_NOTHING):
        return Unavailable(text)
    return AnswerLost(f"{text} - describe before repeating the call") if mutation else Unavailable(text)
