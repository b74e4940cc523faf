"""One policy over two clouds, each behind its real client and strict emulator: the cheapest progress wins anywhere.

A shortage on one falls to the other by a new machine, where the job's recipe names a template there.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from daemon.types import Checkpoint, Job
from providers.aws.client import Client as AwsClient
from providers.aws.provider import Aws
from providers.base import Provider
from providers.budget import Budget
from providers.catalog import Catalog
from providers.errors import Incompatible, QuotaExceeded
from providers.gcp.client import Client as GcpClient
from providers.gcp.provider import Gcp
from providers.mixed import mixed
from providers.types import Launch, LaunchPlace, LaunchRecipe, Offer, Replace, Target
from tests.daemon.test_loop import Scene
from tests.daemon.test_operate_aws import KEYS
from tests.emulators.aws import Emulator as AwsEmulator
from tests.emulators.gce import Emulator as GceEmulator
from tests.providers.aws.conftest import LARGE, SMALL
from tests.providers.gcp.conftest import N1_BIG, ZONE, offer

RECIPE = LaunchRecipe("train", {}, {"gcp": LaunchPlace("trainer", ZONE), "aws": LaunchPlace("train", "us-east-1a")})
GCP_LARGE = f"gcp/{ZONE}/n1-standard-16"


def priced(one: Offer, usd: float) -> Offer:
    assert one.price is not None
    return replace(one, zone=None, price=replace(one.price, usd_per_hour=usd))


class TwoClouds(Scene):
    """A job on an EC2 instance whose memory it is about to outgrow, with a recipe for both clouds."""

    policy = """\
scaleahead: 1
policies:
  default:
    kind: cost_per_progress
    checkpoint: not_needed
    moves: {cooldown_minutes: 1, max_per_hour: 10}
    mode: {default: MODE}
"""
    google_usd = 0.6

    def connected(self) -> dict[str, Provider]:
        self.aws = AwsEmulator(self.clock, stop_seconds=6, boot_seconds=6)
        self.gce = GceEmulator(self.clock, stop_seconds=6, boot_seconds=6)
        self.aws.start()
        self.gce.start()
        ec2 = self.aws.client("ec2")
        template = {"ImageId": self.aws.image(), "InstanceType": SMALL.machine_type}
        ec2.create_launch_template(LaunchTemplateName="train", LaunchTemplateData=template)
        answer = ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "train"}, InstanceType=SMALL.machine_type, MinCount=1, MaxCount=1,
            Placement={"AvailabilityZone": "us-east-1a"},
        )  # fmt: skip
        self.clock.advance(60)
        self.gce.template("trainer", "n1-standard-8")
        self.target = Target("aws", "vm", answer["Instances"][0]["InstanceId"], "us-east-1a")
        budget = Budget(self.clock)
        client = AwsClient("us-east-1", budget, self.aws.url, KEYS)
        ours = Catalog({one.id: one for one in (SMALL, LARGE)})
        theirs = (priced(offer("n1-standard-8", 8), 0.38), priced(N1_BIG, self.google_usd))
        google = GcpClient(self.gce.project, budget, self.gce.url)
        return mixed({
            "aws": Aws("aws", client, client, ours, self.clock),
            "gcp": Gcp("gcp", google, Catalog({one.id: one for one in theirs}), clock=self.clock),
        })  # fmt: skip

    async def prepare(self, job: str, decision_id: str, deadline: datetime, reason: str) -> None:
        """Take the request; the checkpoint is there at the next look."""

    async def begin(self, recipe: LaunchRecipe = RECIPE) -> None:
        job = Job("bert", self.clock.now(), "default", target=self.target, total_steps=10_000, recipe=recipe)
        self.store.jobs.add(job)
        await self.loop.registered(job)

    async def moved(self) -> list[tuple[str, str]]:
        """Let the job be near its machine's memory until it has moved or is left alone; list offer and end of each."""
        for _ in range(4):
            await self.say("bert", 31.8, run=f"run-{self.run}")
            await self.loop.turn(["bert"])
            for _ in range(60):
                if not (open_actions := self.store.actions.unfinished()):
                    break
                self.clock.advance(15)
                action = open_actions[0]
                if action.stage == "checkpointing":
                    saved = Checkpoint(f"step-{self.seq}", self.seq, 5.0)
                    await self.say("bert", 31.8, 1, f"run-{self.run}", checkpoint=saved, state="ready")
                elif action.stage in ("verifying", "rolling_back"):
                    self.run += 1
                    await self.say("bert", 31.8, 1, f"run-{self.run}")
                await self.loop._advance(action)
            ended = [(d.choice.option.offer.id, d.status) for d in reversed(self.store.decisions.of("bert"))]
            tried = [one for one in ended if one[1] not in ("no_change",)]
            if tried and tried[-1][1] == "done":
                return tried
        return tried

    run = 1

    def running(self) -> list[str]:
        """Name the machine types that run, by the truth of both clouds."""
        found = [one for r in self.aws.client("ec2").describe_instances()["Reservations"] for one in r["Instances"]]
        ours = [one["InstanceType"] for one in found if one["State"]["Name"] == "running"]
        self.gce.tick()
        theirs = [one["machineType"] for one in self.gce.instances.values() if one["status"] == "RUNNING"]
        return [*ours, *(one.rpartition("/")[2] for one in theirs)]

    async def end(self) -> None:
        await self.loop.close()
        self.store.close()
        self.aws.close()
        self.gce.close()


class DearGoogle(TwoClouds):
    """The same, where Google's machine costs more than AWS's."""

    google_usd = 1.1


@pytest.fixture
async def clouds(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TwoClouds]:
    made = getattr(request, "param", TwoClouds)(tmp_path, "auto")
    yield made
    await made.end()


dear_google = pytest.mark.parametrize("clouds", [DearGoogle], indirect=True)


async def test_the_cheapest_progress_wins_on_the_other_cloud(clouds: TwoClouds) -> None:
    await clouds.begin()
    assert await clouds.moved() == [(GCP_LARGE, "done")]
    assert clouds.running() == ["n1-standard-16"]
    (job,) = clouds.store.jobs.all()
    assert job.target is not None
    assert (job.target.provider, job.target.place) == ("gcp", ZONE)


@dear_google
async def test_the_cheapest_progress_wins_where_the_job_is(clouds: TwoClouds) -> None:
    await clouds.begin()
    assert await clouds.moved() == [("aws/us-east-1a/m7i.4xlarge", "done")]
    assert clouds.running() == ["m7i.4xlarge"]


async def test_a_shortage_on_the_other_cloud_falls_back_to_the_own(clouds: TwoClouds) -> None:
    clouds.gce.exhaust("n1-standard-16")
    await clouds.begin()
    tried = await clouds.moved()
    assert tried[0][0] == GCP_LARGE
    assert tried[-1] == ("aws/us-east-1a/m7i.4xlarge", "done")
    assert clouds.running() == ["m7i.4xlarge"]


@dear_google
async def test_a_shortage_on_the_own_cloud_falls_to_the_other(clouds: TwoClouds) -> None:
    clouds.aws.exhaust("m7i.4xlarge")
    await clouds.begin()
    tried = await clouds.moved()
    assert tried[0] == ("aws/us-east-1a/m7i.4xlarge", "rolled_back")
    assert tried[-1] == (GCP_LARGE, "done")
    assert clouds.running() == ["n1-standard-16"]


async def test_a_job_whose_recipe_names_no_template_there_stays_on_its_cloud(clouds: TwoClouds) -> None:
    await clouds.begin(replace(RECIPE, places={}))
    assert await clouds.moved() == [("aws/us-east-1a/m7i.4xlarge", "done")]
    assert clouds.gce.instances == {}


async def test_the_other_clouds_quota_is_looked_at_beforehand(clouds: TwoClouds) -> None:
    provider = clouds.loop.watch._providers["aws"]
    here = provider.describe(clouds.target)
    there = replace(priced(N1_BIG, 0.6), zone=ZONE)
    assert isinstance(provider.route(here, there), Replace)
    clouds.gce.limit("CPUS", 8)
    with pytest.raises(QuotaExceeded, match="quota CPUS of us-central1"):
        provider.route(here, there)
    with pytest.raises(Incompatible, match="names no template at gcp"):
        provider.perform(Launch(LaunchRecipe("train"), there, "next"), "l")
    assert clouds.gce.instances == {}
