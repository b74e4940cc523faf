"""Edge: which of the reads that the provider makes the credentials allow. Changes nothing."""

from collections.abc import Mapping

from providers.aws.client import Client
from providers.aws.prices import PRICING_REGION
from providers.budget import Budget
from providers.clock import SystemClock
from providers.errors import NotFound, NotPermitted

_NONE = "scaleahead-none"
READS: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
    ("ec2:DescribeInstances", "ec2", "describe_instances", {"MaxResults": 5}),
    ("ec2:DescribeInstanceTypes", "ec2", "describe_instance_types", {"InstanceTypes": ["m5.large"]}),
    ("ec2:DescribeInstanceTypeOfferings", "ec2", "describe_instance_type_offerings", {"MaxResults": 5}),
    ("ec2:DescribeLaunchTemplateVersions", "ec2", "describe_launch_template_versions", {"LaunchTemplateName": _NONE}),
    ("ec2:DescribeSpotInstanceRequests", "ec2", "describe_spot_instance_requests", {"MaxResults": 5}),
    ("ec2:DescribeSpotPriceHistory", "ec2", "describe_spot_price_history", {"MaxResults": 5}),
    ("autoscaling:DescribeAutoScalingGroups", "autoscaling", "describe_auto_scaling_groups", {"MaxRecords": 1}),
    ("autoscaling:DescribeScalingActivities", "autoscaling", "describe_scaling_activities",
     {"AutoScalingGroupName": _NONE}),
    ("eks:DescribeNodegroup", "eks", "describe_nodegroup", {"clusterName": _NONE, "nodegroupName": _NONE}),
    ("eks:DescribeUpdate", "eks", "describe_update", {"name": _NONE, "updateId": _NONE}),
    ("servicequotas:GetServiceQuota", "service-quotas", "get_service_quota",
     {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}),
    ("pricing:GetProducts", "pricing", "get_products", {"ServiceCode": "AmazonEC2", "MaxResults": 1}),
)  # fmt: skip
"""A permission, and the smallest call that needs it."""


def reads(region: str, profile: str | None = None, endpoint: str | None = None) -> dict[str, str | None]:
    """Make each read once; give for each permission ``None`` if it is allowed, else what AWS says.

    Raises ``providers.errors`` where AWS cannot be asked at all.
    """
    budget = Budget(SystemClock())
    credentials = {"profile_name": profile} if profile else {}
    here = Client(region, budget, endpoint, credentials)
    prices = Client(PRICING_REGION, budget, endpoint, credentials)
    found: dict[str, str | None] = {}
    for permission, service, method, arguments in READS:
        try:
            (prices if service == "pricing" else here).read(service, method, **arguments)
            found[permission] = None
        except NotFound:
            if _NONE not in arguments.values():
                raise
            found[permission] = None  # whoever may not look is not told that nothing is there
        except NotPermitted as error:
            found[permission] = str(error)
    return found
