"""A short run against a real AWS account: what is allowed first (DryRun), then one machine through all its calls.

``make smoke-cloud ACCOUNT=123456789012 BUDGET_USD=2 TEMPLATE=trainer`` launches one machine of ``--small`` from the
template, stops it, makes it one of ``--large``, starts it and deletes it. It refuses to run without an account and a
budget, in another account than the one that is named, and where a launch could cost more than is left.
"""

import argparse
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import sleep

import boto3

from providers import catalog
from providers.aws import rules
from providers.aws.client import Client
from providers.aws.prices import PRICING_REGION
from providers.aws.provider import Aws
from providers.budget import Budget
from providers.clock import Clock, SystemClock
from providers.errors import ProviderError
from providers.types import Call, Launch, LaunchRecipe, Modify, Offer, Operation, Start, Stop, Target, Terminate

POLL_SECONDS, LONGEST_SECONDS = 10.0, 900.0
LABEL = "scaleahead-smoke"


class Refused(Exception):
    """The run is refused, or ended; the text says why in one line."""


@dataclass
class Purse:
    """The dollars that may still be set aside. An hour of a machine is set aside before it is launched."""

    left_usd: float

    def take(self, offer: Offer) -> None:
        """Set an hour of a machine aside. Raises ``Refused``, with nothing launched."""
        if offer.price is None:
            raise Refused(f"{offer.id} has no price - nothing is launched")
        if not offer.price.usd_per_hour <= self.left_usd:
            raise Refused(f"an hour of {offer.id} costs {offer.price.usd_per_hour:.3f} USD and {self.left_usd:.3f} "
                          "are left of the budget - nothing is launched")  # fmt: skip
        self.left_usd -= offer.price.usd_per_hour


@dataclass
class Run:
    """One run: the provider, what may be spent, and how time passes while a call is carried out."""

    aws: Aws
    purse: Purse
    wait: Callable[[float], None]

    def done(self, call: Call) -> Operation:
        """Make a call and see it through. Raises ``Refused`` where it comes to nothing or takes too long."""
        operation = self.aws.perform(call, uuid.uuid4().hex)
        waited = 0.0
        while operation.state == "running" and waited < LONGEST_SECONDS:
            self.wait(POLL_SECONDS)
            waited += POLL_SECONDS
            operation = self.aws.poll(operation)
        if operation.state != "done":
            raise Refused(f"{type(call).__name__} is {operation.state}: {operation.error or 'it takes too long'}")
        print(f"{type(call).__name__.lower()}: done")
        return operation

    def machine(self, template: str, small: Offer, large: Offer) -> None:
        """Take one machine through launch, stop, change, start; delete it whatever comes."""
        for offer in (small, large):
            self.purse.take(offer)
        recipe = LaunchRecipe(template, {LABEL: "yes"})
        begun = self.aws.perform(Launch(recipe, small, LABEL), uuid.uuid4().hex)
        assert begun.made is not None
        target = begun.made
        try:
            self._changed(target, begun, large)
        finally:
            self.done(Terminate(target))

    def _changed(self, target: Target, begun: Operation, large: Offer) -> None:
        while (begun := self.aws.poll(begun)).state == "running":
            self.wait(POLL_SECONDS)
        for call in (Stop(target), Modify(target, large, "machine_type"), Start(target)):
            self.done(call)
        found = self.aws.describe(target)
        if (found.state, found.offer.machine_type) != ("running", large.machine_type):
            raise Refused(f"{target.id} is {found.state} as {found.offer.machine_type}, not as {large.machine_type}")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line. Raises ``Refused`` without an account or a budget."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.smoke_cloud", description=__doc__)
    parser.add_argument("--account", default="")
    parser.add_argument("--budget-usd", default="")
    parser.add_argument("--template", default="")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--small", default="m7i.large")
    parser.add_argument("--large", default="m7i.xlarge")
    parser.add_argument("--dry", action="store_true", help="ask what is allowed, and launch nothing")
    parser.add_argument("--endpoint", help="the address of an emulator")
    told = parser.parse_args(arguments)
    if not (told.account.isdigit() and len(told.account) == 12):
        raise Refused("name the account that may be used, 12 digits: ACCOUNT=123456789012")
    try:
        told.budget_usd = float(told.budget_usd)
    except ValueError:
        raise Refused("say how many dollars may be spent at most: BUDGET_USD=2") from None
    if not 0 < told.budget_usd < 1000:
        raise Refused("the budget is a number of dollars above 0 and below 1000: BUDGET_USD=2")
    if not told.template:
        raise Refused("name the launch template to launch from: TEMPLATE=trainer")
    return told


def check_account(wanted: str, region: str, endpoint: str | None) -> None:
    """Ask whose credentials these are. Raises ``Refused`` where it is another account."""
    there = boto3.client("sts", region, endpoint_url=endpoint).get_caller_identity()["Account"]
    if there != wanted:
        raise Refused(f"the credentials are of account {there}, not of {wanted} - nothing was done")


def smoke(arguments: Sequence[str], clock: Clock, wait: Callable[[float], None]) -> None:
    """Make the run. Raises ``Refused`` or an error of ``providers.errors``."""
    told = options(arguments)
    check_account(told.account, told.region, told.endpoint)
    known, budget = catalog.load(), Budget(clock)
    client, prices = (Client(region, budget, told.endpoint) for region in (told.region, PRICING_REGION))
    run = Run(Aws("aws", client, prices, known, clock), Purse(told.budget_usd), wait)
    small, large = (offer_of(run.aws, told.region, kind) for kind in (told.small, told.large))
    # Labelled as a real launch is: the shipped policy allows no other.
    labelled = [{"ResourceType": "instance", "Tags": [{"Key": rules.MANAGED_TAG, "Value": "managed"}]}]
    launch = {"LaunchTemplate": {"LaunchTemplateName": told.template}, "InstanceType": small.machine_type}
    if not client.would_be_allowed("run_instances", MinCount=1, MaxCount=1, TagSpecifications=labelled, **launch):
        raise Refused("ec2:RunInstances is not allowed - see deploy/iam/aws")
    lacking = run.aws.lacking([])
    if lacking:
        raise Refused(f"not allowed: {', '.join(lacking)} - see deploy/iam/aws")
    print("all that can be asked beforehand is allowed")
    if not told.dry:
        run.machine(told.template, small, large)


def offer_of(aws: Aws, region: str, kind: str) -> Offer:
    """Find a machine type's on-demand offer. Raises ``Refused``."""
    for offer in aws.around(f"{region}a"):
        if (offer.machine_type, offer.buying) == (kind, "on_demand"):
            return replace(offer, zone=offer.zone or f"{region}a")
    raise Refused(f"{kind} is not in the price list of {region} - take another with --small or --large")


def main() -> int:
    """Run from the command line; exit status 2 where it is refused."""
    try:
        smoke(sys.argv[1:], SystemClock(), sleep)
    except (Refused, ProviderError) as error:
        print(f"smoke-cloud: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
