"""Pure decisions: what EKS says is wrong with a node group, and what that means for its size.

The codes are those of ``NodegroupIssueCode`` in the EKS API reference; a test holds the table to the SDK's own list.
"""

from collections.abc import Mapping

from providers.aws.rules import Answer
from providers.errors import Incompatible, NoCapacity, NotPermitted, ProviderError, QuotaExceeded, Transient

KINDS: Mapping[type[ProviderError], tuple[str, ...]] = {
    # The group cannot launch a node now; the message names the type or the subnet.
    NoCapacity: ("AsgInstanceLaunchFailures", "InsufficientFreeAddresses"),
    QuotaExceeded: (
        "InstanceLimitExceeded", "IamLimitExceeded", "LimitExceeded", "Ec2LaunchTemplateMaxLimitExceeded",
        "Ec2LaunchTemplateVersionMaxLimitExceeded",
    ),
    NotPermitted: ("AccessDenied", "AutoScalingGroupOptInRequired"),
    # Something that the group is made of is missing or wrong: no launch can succeed before a person mends it.
    Incompatible: (
        "AutoScalingGroupNotFound", "AutoScalingGroupInvalidConfiguration", "Ec2SecurityGroupNotFound",
        "Ec2LaunchTemplateNotFound", "Ec2LaunchTemplateVersionMismatch", "Ec2LaunchTemplateInvalidConfiguration",
        "Ec2SubnetNotFound", "Ec2SubnetInvalidConfiguration", "Ec2SubnetMissingIpv6Assignment", "Ec2SubnetListTooLong",
        "IamInstanceProfileNotFound", "IamNodeRoleNotFound", "AmiIdNotFound", "SourceEc2LaunchTemplateNotFound",
        "KubernetesLabelInvalid", "Ec2InstanceTypeDoesNotExist", "NodeCreationFailure",
    ),
    # It passes, or it has nothing to do with the size.
    Transient: (
        "InternalFailure", "ClusterUnreachable", "AutoScalingGroupRateLimitExceeded", "IamThrottling", "Unknown",
        "Ec2SecurityGroupDeletionFailure", "Ec2LaunchTemplateDeletionFailure", "NodeTerminationFailure",
        "PodEvictionFailure", "AutoScalingGroupInstanceRefreshActive",
    ),
}  # fmt: skip

_TYPES = {code: kind for kind, codes in KINDS.items() for code in codes}
FOR_A_PERSON = (NotPermitted, Incompatible)


def issues(pool: Answer) -> dict[str, str]:
    """Read a node group's issues: the message of each by its code."""
    found = pool.get("health", {}).get("issues", ())
    return {str(one["code"]): " ".join(str(one.get("message", "")).split()) for one in found}


def kind_of_issue(code: str) -> type[ProviderError]:
    """Give the class of an issue; one that is not known here is taken for one that passes."""
    return _TYPES.get(code, Transient)


def hindrance(pool: Answer) -> ProviderError | None:
    """Find what keeps a node group from any growth until a person mends it. Shortage may have passed by now."""
    for code, message in issues(pool).items():
        kind = kind_of_issue(code)
        if kind in FOR_A_PERSON:
            return kind(f"node group {pool['nodegroupName']} is {pool['status']}: {code}: {message}")
    return None


def fresh_fault(pool: Answer, known: frozenset[str]) -> str:
    """Say which issue came up that was not there before, its class first; "" for none, or one that passes."""
    for code, message in issues(pool).items():
        kind = kind_of_issue(code)
        if code not in known and kind is not Transient:
            return f"{kind.__name__}: {code}: {message}"
    return ""
