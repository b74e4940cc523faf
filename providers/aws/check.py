"""Edge: which of the reads that the provider makes the credentials allow. Changes nothing."""

from collections.abc import Mapping, Sequence

from providers.aws.client import Client
from providers.aws.prices import PRICING_REGION
from providers.budget import Budget
from providers.clock import SystemClock
from providers.reads import NOWHERE, Read, tried

READS: tuple[Read, ...] = (
    ("ec2:DescribeInstances", "ec2", "describe_instances", {"MaxResults": 5}),
    # A filter, since to name a type that the region does not have is an error.
    ("ec2:DescribeInstanceTypes", "ec2", "describe_instance_types",
     {"Filters": [{"Name": "instance-type", "Values": ["m5.large"]}]}),
    ("ec2:DescribeInstanceTypeOfferings", "ec2", "describe_instance_type_offerings", {"MaxResults": 5}),
    ("ec2:DescribeLaunchTemplateVersions", "ec2", "describe_launch_template_versions", {"LaunchTemplateName": NOWHERE}),
    ("ec2:DescribeSpotInstanceRequests", "ec2", "describe_spot_instance_requests", {"MaxResults": 5}),
    ("ec2:DescribeSpotPriceHistory", "ec2", "describe_spot_price_history", {"MaxResults": 5}),
    ("autoscaling:DescribeAutoScalingGroups", "autoscaling", "describe_auto_scaling_groups", {"MaxRecords": 1}),
    ("autoscaling:DescribeScalingActivities", "autoscaling", "describe_scaling_activities",
     {"AutoScalingGroupName": NOWHERE}),
    ("eks:DescribeNodegroup", "eks", "describe_nodegroup", {"clusterName": NOWHERE, "nodegroupName": NOWHERE}),
    ("eks:DescribeUpdate", "eks", "describe_update", {"name": NOWHERE, "updateId": NOWHERE}),
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
    return asked(here, prices)


def asked(here: Client, prices: Client, wanted: Sequence[Read] = READS) -> dict[str, str | None]:
    """Make each read once through clients that are there; ``prices`` is the one of where prices are served."""

    def ask(service: str, method: str, arguments: Mapping[str, object]) -> object:
        return (prices if service == "pricing" else here).read(service, method, **arguments)

    return tried(wanted, ask)
