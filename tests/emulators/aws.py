"""Edge: a strict AWS on loopback, laid over moto: what EC2, Auto Scaling and EKS enforce and moto lets pass.

``python -m tests.emulators.aws --port 4580`` serves one that a provider's ``endpoint`` may point at. In tests it runs
under a virtual clock, takes scripted faults, records every call, and may ask before each mutation for its intent.
Its rules are written from AWS's documents (see ``RULES``), not from the provider, so that both cannot share a mistake.
"""

import argparse
import json
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import boto3
from moto.autoscaling.models import autoscaling_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.instances import Instance, StateReason
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from providers.clock import Clock, SystemClock
from tests.emulators import eks
from tests.emulators.spot import NOTICE_SECONDS, Spot

RULES = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
MUTATIONS = frozenset({
    "StopInstances", "StartInstances", "ModifyInstanceAttribute", "RunInstances", "TerminateInstances", "CreateTags",
    "SetDesiredCapacity", "TerminateInstanceInAutoScalingGroup",
}) | eks.MUTATIONS  # fmt: skip
QUOTAS = {
    "L-1216C47A": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "acdhimrtz", False),
    "L-DB2E81BA": ("Running On-Demand G and VT instances", "gv", False),
    "L-417A185B": ("Running On-Demand P instances", "p", False),
    "L-34B43A08": ("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "acdhimrtz", True),
    "L-3819A6DF": ("All G and VT Spot Instance Requests", "gv", True),
    "L-7212CCBC": ("All P4, P3 and P2 Spot Instance Requests", "p", True),
}
RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Fault:
    """A scripted fault of the next ``times`` calls of an action (glob): refused before, or after it took effect.

    ``code`` "" breaks the connection. ``seconds`` of delay go before either, told to ``sleep``.
    """

    action: str
    code: str = ""
    status: int = 400
    after: bool = False
    times: int = 1
    message: str = "scripted"


@dataclass(frozen=True)
class Called:
    """One call that came in: when, its action and parameters, and "ok", an error's code, or "broken"."""

    at: datetime
    action: str
    parameters: Mapping[str, str]
    outcome: str


class Refusal(Exception):
    """An error that AWS answers with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Broken(Exception):
    """The connection breaks without an answer."""


@dataclass
class _Request:
    service: str
    region: str
    action: str
    parameters: dict[str, str]
    environ: dict
    body: bytes


@dataclass
class _Group:
    """What a group tells beyond moto's: activities, newest first, and when it tries again to launch what it lacks."""

    activities: list[dict[str, str]] = field(default_factory=list)
    retry_at: datetime | None = None


class Emulator:
    """One strict AWS account. Start it, point an endpoint at ``url``, steer it by the methods below ``close``."""

    def __init__(
        self,
        clock: Clock,
        ask: Callable[[str, Mapping[str, str]], str | None] | None = None,
        stop_seconds: float = 40.0,
        boot_seconds: float = 30.0,
        visible_seconds: float = 0.0,
        update_seconds: float = 20.0,
    ) -> None:
        self.ask = ask
        self.complaints: list[str] = []
        self.denied: list[str] = []
        self._clients: dict[tuple[str, str], Any] = {}
        self.calls: list[Called] = []
        self._clock = clock
        self._stop, self._boot = timedelta(seconds=stop_seconds), timedelta(seconds=boot_seconds)
        self._visible = timedelta(seconds=visible_seconds)
        self._due: dict[str, tuple[datetime, str, str]] = {}
        self._hidden: dict[str, datetime] = {}
        self._tokens: dict[str, tuple[str, bytes, list]] = {}
        self._faults: list[Fault] = []
        self._spoiled: dict[str, str] = {}
        self._exhausted: list[tuple[str, bool]] = []
        self._barriers: list[tuple[str, str]] = []
        self._limits = dict.fromkeys(QUOTAS, 100_000.0)
        self._groups: dict[str, _Group] = {}
        self._prices: dict[str, float] = {}
        self._spot_prices: list[tuple[str, str, float]] = []
        self._spot = Spot(clock)
        self._lock = threading.RLock()
        self.region = "us-east-1"
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.eks = eks.Eks(clock, Refusal, self._scale, self._scaled, update_seconds)
        self.url = ""

    # Life.

    def start(self, port: int = 0) -> None:
        """Begin to serve on loopback, with an empty account."""
        for backends in (ec2_backends, autoscaling_backends):
            for regions in backends.values():
                for backend in list(regions.values()):
                    backend.reset()
        self._server = make_server("127.0.0.1", port, self, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What its operator does.

    def client(self, service: str, region: str = "us-east-1"):
        """Make the SDK's client of it, as another user of the account."""
        if (service, region) not in self._clients:
            self._clients[service, region] = boto3.client(
                service, region, endpoint_url=self.url, aws_access_key_id="test", aws_secret_access_key="test"
            )  # fmt: skip
        return self._clients[service, region]

    def fault(self, fault: Fault) -> None:
        """Script a fault."""
        with self._lock:
            self._faults.append(fault)

    def relent(self) -> None:
        """Take back every fault that was scripted and has not come."""
        with self._lock:
            self._faults.clear()

    def spoil(self, action: str, message: str) -> None:
        """Accept the next call of an action, and let it come to nothing."""
        with self._lock:
            self._spoiled[action] = message

    def exhaust(self, machine_type: str, late: bool = False) -> None:
        """Let there be no capacity for a type (glob). ``late``: the call is taken, and the boot comes to nothing."""
        with self._lock:
            self._exhausted.append((machine_type, late))

    def relieve(self) -> None:
        """Let there be capacity again."""
        with self._lock:
            self._exhausted.clear()

    def limit(self, code: str, vcpus: float) -> None:
        """Set a quota."""
        with self._lock:
            self._limits[code] = vcpus

    def forbid(self, old: str, new: str) -> None:
        """Forbid a change between machine types (globs), as EC2 does for some families."""
        with self._lock:
            self._barriers.append((old, new))

    def price(self, machine_type: str, usd_per_hour: float) -> None:
        """Put a price into the price list."""
        with self._lock:
            self._prices[machine_type] = usd_per_hour

    def spot_price(self, machine_type: str, zone: str, usd_per_hour: float) -> None:
        """Put a price into the spot history."""
        with self._lock:
            self._spot_prices.append((machine_type, zone, usd_per_hour))

    def interrupt(self, instance: str, seconds: float = NOTICE_SECONDS) -> datetime:
        """Give notice that a spot instance is taken back; say when it ends."""
        with self._lock:
            return self._spot.mark(instance, seconds)

    def image(self, region: str = "us-east-1") -> str:
        """Name an image that runs on x86-64."""
        images = ec2_backends[DEFAULT_ACCOUNT_ID][region].describe_images(filters={"architecture": ["x86_64"]})
        return next(image.id for image in images if image.virtualization_type == "hvm")

    def pool(
        self, cluster: str, name: str, template: str, size: int, bounds: tuple[int, int], **more: Any
    ) -> eks.Nodegroup:
        """Make a node group of EKS, over a group of Auto Scaling that carries the same tags and EKS's own."""
        tags = {**more.get("tags", {}), "eks:cluster-name": cluster, "eks:nodegroup-name": name}
        group = f"eks-{name}-{uuid.uuid4()}"
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=group, MinSize=bounds[0], MaxSize=bounds[1], DesiredCapacity=size,
            AvailabilityZones=[f"{self.region}a"],
            LaunchTemplate={"LaunchTemplateName": template, "Version": "$Default"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": False} for key, value in tags.items()],
        )  # fmt: skip
        return self.eks.add(cluster, name, group, bounds, **more)

    def machines(self) -> list[str]:
        """Name the running machines as their nodes in a cluster do."""
        with self._lock:
            self._pass_time(self.region)
            found = ec2_backends[DEFAULT_ACCOUNT_ID][self.region].all_instances()
        return [f"aws:///{one.placement.zone}/{one.id}" for one in found if one.state == "running"]

    def in_service(self, group: str) -> list[str]:
        """Name the instances of a group of Auto Scaling that are in service."""
        with self._lock:
            self._pass_time(self.region)
            found = autoscaling_backends[DEFAULT_ACCOUNT_ID][self.region].autoscaling_groups[group].instance_states
        return [one.instance.id for one in found if one.lifecycle_state == "InService"]

    # A request's way.

    def __call__(self, environ: dict, start_response: Callable) -> Iterator[bytes]:
        request = _read(environ)
        outcome = "ok"
        try:
            with self._lock:
                self._pass_time(request.region)
                status, headers, body = self._answer(request)
        except Refusal as refusal:
            outcome = refusal.code
            status, headers, body = _refused(request.service, refusal)
        except Broken:
            outcome = "broken"
            connection = environ["werkzeug.socket"]
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            return iter(())
        finally:
            self.calls.append(Called(self._clock.now(), request.action, request.parameters, outcome))
        start_response(status, headers)
        return iter([body])

    def _answer(self, request: _Request) -> tuple[str, list, bytes]:
        dry = request.service == "ec2" and request.parameters.get("DryRun", "").lower() == "true"
        if request.action in MUTATIONS and self.ask is not None and not dry:
            complaint = self.ask(request.action, request.parameters)
            if complaint:
                self.complaints.append(complaint)
                raise Refusal("NoIntent", complaint)
        self._fail(request.action, after=False)
        self._permit(request, dry)
        if request.service == "eks":
            answer = _json(self.eks.answer(request.action, request.parameters))
            self._fail(request.action, after=True)
            return answer
        handler = getattr(self, f"_do_{re.sub(r'(?<!^)(?=[A-Z])', '_', request.action).lower()}", None)
        answer = handler(request) if handler else self._forward(request)
        self._fail(request.action, after=True)
        return answer

    def _permit(self, request: _Request, dry: bool) -> None:
        """Refuse what is not allowed; EC2 answers a dry run of anything else before it looks at the state."""
        if any(fnmatchcase(request.action, action) for action in self.denied):
            code = {"ec2": "UnauthorizedOperation", "autoscaling": "AccessDenied"}.get(request.service)
            raise Refusal(code or "AccessDeniedException", f"not authorized to perform: {request.action}", 403)
        if dry:
            message = "Request would have succeeded, but DryRun flag is set."
            raise Refusal("DryRunOperation", message, 412)

    def _fail(self, action: str, after: bool) -> None:
        for place, fault in enumerate(self._faults):
            if fault.after == after and fnmatchcase(action, fault.action):
                left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                self._faults[place : place + 1] = left
                if not fault.code:
                    raise Broken
                raise Refusal(fault.code, fault.message, fault.status)

    def _forward(self, request: _Request) -> tuple[str, list, bytes]:
        """Let moto answer."""
        told: list = []
        environ = {**request.environ, "wsgi.input": BytesIO(request.body), "CONTENT_LENGTH": str(len(request.body))}
        chunks = self._moto(environ, lambda status, headers, exc_info=None: told.append((status, headers)))
        return told[0][0], list(told[0][1]), b"".join(chunks)

    # Time.

    def _pass_time(self, region: str) -> None:
        now = self._clock.now()
        for identity, (due, state, reason) in list(self._due.items()):
            if now >= due:
                del self._due[identity]
                self._put(region, identity, state, reason)
        there = {one.id for one in ec2_backends[DEFAULT_ACCOUNT_ID][region].all_instances() if one.state == "running"}
        for identity in there & set(self._spot.due()):
            reason = "Server.SpotInstanceTermination: Spot instance termination"
            self._turn(region, identity, "shutting-down", "terminated", self._stop, reason)
        self.eks.pass_time()
        for name, told in self._groups.items():
            if told.retry_at is not None and now >= told.retry_at:
                self._launch_missing(region, name)

    def _put(self, region: str, identity: str, state: str, reason: str = "") -> None:
        backend = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        for instance in backend.all_instances():
            if instance.id == identity:
                instance._state.name, instance._state.code = state, CODES[state]
                if reason:
                    instance.state_reason = StateReason(reason, reason.partition(":")[0])
        for group in autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups.values():
            for member in group.instance_states:
                if member.instance.id == identity and state == "running":
                    member.lifecycle_state = "InService"

    def _turn(self, region: str, identity: str, now_state: str, then: str, after: timedelta, reason: str = "") -> None:
        self._put(region, identity, now_state)
        self._due[identity] = (self._clock.now() + after, then, reason)

    # EC2.

    def _instance(self, request: _Request, identity: str):
        for instance in ec2_backends[DEFAULT_ACCOUNT_ID][request.region].all_instances():
            if instance.id == identity:
                return instance
        raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{identity}' does not exist")

    def _do_describe_instances(self, request: _Request):
        for identity in _listed(request.parameters, "InstanceId"):
            if self._hidden.get(identity, self._clock.now()) > self._clock.now():
                raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{identity}' does not exist")
        status, headers, body = self._forward(request)
        return status, _of_length(headers), self._spot.named(body)

    def _do_describe_spot_instance_requests(self, request: _Request):
        body, missing = self._spot.described(_listed(request.parameters, "SpotInstanceRequestId"))
        if missing:
            raise Refusal(
                "InvalidSpotInstanceRequestID.NotFound", f"The spot instance request ID '{missing}' does not exist"
            )
        return _xml(body)

    def _do_stop_instances(self, request: _Request):
        identities = _listed(request.parameters, "InstanceId")
        before = {}
        for identity in identities:
            instance = self._instance(request, identity)
            before[identity] = instance.state
            if instance.state not in ("running", "stopping", "stopped"):
                raise Refusal(
                    "IncorrectInstanceState",
                    f"This instance '{identity}' is not in a state from which it can be stopped.",
                )
            if instance.lifecycle == "spot":
                raise Refusal("UnsupportedOperation", f"You can't stop the Spot Instance '{identity}' because it is "
                              "associated with a one-time Spot Instance request.")  # fmt: skip
        answer = self._forward(request)
        spoiled = self._spoiled.pop("StopInstances", None)
        for identity, state in before.items():
            if state == "running":
                then = "stopped" if spoiled is None else "running"
                reason = "" if spoiled is None else f"Server.InternalError: {spoiled}"
                self._turn(request.region, identity, "stopping", then, self._stop, reason)
            else:
                self._put(request.region, identity, state)
        return answer

    def _do_start_instances(self, request: _Request):
        identities = _listed(request.parameters, "InstanceId")
        fresh = []
        for identity in identities:
            instance = self._instance(request, identity)
            if instance.state in ("running", "pending"):
                continue
            if instance.state != "stopped":
                raise Refusal(
                    "IncorrectInstanceState",
                    f"The instance '{identity}' is not in a state from which it can be started.",
                )
            self._capacity(instance.instance_type, instance.placement.zone)
            self._quota(request.region, instance.instance_type, 1, spot=False)
            fresh.append(instance)
        before = {identity: self._instance(request, identity).state for identity in identities}
        answer = self._forward(request)
        for identity, state in before.items():
            self._put(request.region, identity, state)
        for instance in fresh:
            self._boots(request.region, instance, "stopped")
        return answer

    def _boots(self, region: str, instance: Instance, otherwise: str) -> None:
        """Let an instance boot; on a late shortage it comes to nothing."""
        late = any(late and fnmatchcase(instance.instance_type, pattern) for pattern, late in self._exhausted)
        reason = (
            "Server.InsufficientInstanceCapacity: Insufficient capacity to satisfy instance request" if late else ""
        )
        self._turn(region, instance.id, "pending", otherwise if late else "running", self._boot, reason)

    def _do_modify_instance_attribute(self, request: _Request):
        identity = request.parameters["InstanceId"]
        kind = request.parameters.get("InstanceType.Value")
        instance = self._instance(request, identity)
        if kind is None:
            raise Refusal("UnauthorizedOperation", "only the attribute InstanceType may be modified here", 403)
        if instance.state != "stopped":
            raise Refusal("IncorrectInstanceState", f"The instance '{identity}' is not in the 'stopped' state.")
        if kind not in INSTANCE_TYPES:
            raise Refusal("InvalidInstanceAttributeValue", f"The instance type '{kind}' is not valid")
        if instance.architecture not in INSTANCE_TYPES[kind]["ProcessorInfo"]["SupportedArchitectures"]:
            raise Refusal("InvalidInstanceAttributeValue", f"The architecture of '{identity}' does not match '{kind}'")
        if any(fnmatchcase(instance.instance_type, old) and fnmatchcase(kind, new) for old, new in self._barriers):
            change = f"from {instance.instance_type} to {kind}"
            raise Refusal("InvalidInstanceAttributeValue", f"Modifying the instance type {change} is not allowed")
        return self._forward(request)

    def _do_run_instances(self, request: _Request):
        told = request.parameters
        token = told.get("ClientToken", "")
        digest = json.dumps({key: value for key, value in sorted(told.items()) if key != "Action"})
        if token in self._tokens:
            before, body, headers = self._tokens[token]
            if before != digest:
                raise Refusal("IdempotentParameterMismatch", f"The client token '{token}' was used for another request")
            return "200 OK", headers, body
        kind = told.get("InstanceType", "")
        zone = told.get("Placement.AvailabilityZone", f"{request.region}a")
        if kind not in INSTANCE_TYPES:
            raise Refusal("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        offered = INSTANCE_TYPE_OFFERINGS["availability-zone"][request.region]
        if not any(one["InstanceType"] == kind and one["Location"] == zone for one in offered):
            raise Refusal("Unsupported", f"Your requested instance type ({kind}) is not supported in {zone}.")
        spot = told.get("InstanceMarketOptions.MarketType") == "spot"
        self._quota(request.region, kind, int(told["MinCount"]), spot)
        self._capacity(kind, zone)
        status, headers, body = self._forward(request)
        for identity in set(re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", body)):
            instance = self._instance(request, identity.decode())
            self._boots(request.region, instance, "terminated")
            self._hidden[instance.id] = self._clock.now() + self._visible
            if spot:
                self._spot.fulfil(instance.id)
        if token:
            self._tokens[token] = (digest, body, headers)
        return status, headers, body

    def _do_terminate_instances(self, request: _Request):
        identities = _listed(request.parameters, "InstanceId")
        before = {identity: self._instance(request, identity).state for identity in identities}
        answer = self._forward(request)
        for identity, state in before.items():
            if state != "terminated":
                self._turn(request.region, identity, "shutting-down", "terminated", self._stop)
        return answer

    def _capacity(self, kind: str, zone: str) -> None:
        if any(not late and fnmatchcase(kind, pattern) for pattern, late in self._exhausted):
            raise Refusal("InsufficientInstanceCapacity", f"We currently do not have sufficient {kind} capacity in the "
                          f"Availability Zone you requested ({zone}).", 500)  # fmt: skip

    def _quota(self, region: str, kind: str, count: int, spot: bool) -> None:
        for code, (_, letters, of_spot) in QUOTAS.items():
            if of_spot != spot or kind[0] not in letters:
                continue
            counted = [
                INSTANCE_TYPES[one.instance_type]["VCpuInfo"]["DefaultVCpus"]
                for one in ec2_backends[DEFAULT_ACCOUNT_ID][region].all_instances()
                if one.state in ("pending", "running") and one.instance_type[0] in letters
                and (one.lifecycle == "spot") == spot
            ]  # fmt: skip
            if sum(counted) + count * INSTANCE_TYPES[kind]["VCpuInfo"]["DefaultVCpus"] > self._limits[code]:
                name = "MaxSpotInstanceCountExceeded" if spot else "VcpuLimitExceeded"
                raise Refusal(name, f"You have requested more vCPU capacity than your current vCPU limit of "
                              f"{self._limits[code]:g} allows for the instance bucket of {kind}.")  # fmt: skip

    def _do_describe_spot_price_history(self, request: _Request):
        at = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
        rows = "".join(
            f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{usd}</spotPrice><timestamp>{at}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
            for kind, zone, usd in self._spot_prices
        )
        return _xml(
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<requestId>r</requestId><spotPriceHistorySet>{rows}</spotPriceHistorySet>"
            "</DescribeSpotPriceHistoryResponse>"
        )

    # Auto Scaling.

    def _group(self, request: _Request):
        name = request.parameters.get("AutoScalingGroupName", "")
        groups = autoscaling_backends[DEFAULT_ACCOUNT_ID][request.region].autoscaling_groups
        if name not in groups:
            raise Refusal("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
        return groups[name], self._groups.setdefault(name, _Group())

    def _do_set_desired_capacity(self, request: _Request):
        group, told = self._group(request)
        wanted = int(request.parameters["DesiredCapacity"])
        if wanted > group.max_size:
            raise Refusal("ValidationError", f"New SetDesiredCapacity value {wanted} is above max value "
                          f"{group.max_size} for the AutoScalingGroup.")  # fmt: skip
        if wanted < group.min_size:
            raise Refusal("ValidationError", f"New SetDesiredCapacity value {wanted} is below min value "
                          f"{group.min_size} for the AutoScalingGroup.")  # fmt: skip
        if wanted <= len(group.instance_states):
            told.retry_at = None
            return self._forward(request)
        group.desired_capacity = wanted
        self._launch_missing(request.region, group.name)
        return _xml(
            '<SetDesiredCapacityResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
            "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></SetDesiredCapacityResponse>"
        )

    def _scale(self, name: str, least: int, most: int, size: int) -> None:
        """Set bounds and size of a group, as EKS does for a node group."""
        group = autoscaling_backends[DEFAULT_ACCOUNT_ID][self.region].autoscaling_groups[name]
        group.min_size, group.max_size = least, most
        told = self._groups.setdefault(name, _Group())
        if size <= len(group.instance_states):
            told.retry_at = None
            group.set_desired_capacity(size)
            return
        group.desired_capacity = size
        self._launch_missing(self.region, name)

    def _scaled(self, name: str) -> tuple[int, str]:
        """Say a group's size, and why it lacks nodes, "" if it lacks none."""
        group = autoscaling_backends[DEFAULT_ACCOUNT_ID][self.region].autoscaling_groups[name]
        told = self._groups.setdefault(name, _Group())
        failed = told.retry_at is not None and told.activities and told.activities[0]["StatusCode"] == "Failed"
        return group.desired_capacity, told.activities[0]["StatusMessage"] if failed else ""

    def _launch_missing(self, region: str, name: str) -> None:
        """Start the nodes that a group lacks, or tell in an activity why not, and try again in a while."""
        group = autoscaling_backends[DEFAULT_ACCOUNT_ID][region].autoscaling_groups[name]
        told, now = self._groups.setdefault(name, _Group()), self._clock.now()
        lacking = group.desired_capacity - len(group.instance_states)
        if lacking <= 0:
            told.retry_at = None
            return
        try:
            self._capacity(group.instance_type, group.availability_zones[0])
            self._quota(region, group.instance_type, lacking, spot=False)
        except Refusal as refusal:
            told.retry_at = now + timedelta(seconds=RETRY_SECONDS)
            message = f"{refusal.message} Launching EC2 instance failed. ({refusal.code})"
            told.activities.insert(0, _activity(name, now, "Failed", message))
            return
        before = {member.instance.id for member in group.instance_states}
        group.set_desired_capacity(group.desired_capacity)
        told.retry_at = None
        for member in group.instance_states:
            if member.instance.id not in before:
                member.lifecycle_state = "Pending"
                self._turn(region, member.instance.id, "pending", "running", self._boot)
                told.activities.insert(0, _activity(name, now, "Successful", ""))

    def _do_terminate_instance_in_auto_scaling_group(self, request: _Request):
        identity = request.parameters["InstanceId"]
        for group in autoscaling_backends[DEFAULT_ACCOUNT_ID][request.region].autoscaling_groups.values():
            if identity in {member.instance.id for member in group.instance_states}:
                decrement = request.parameters["ShouldDecrementDesiredCapacity"].lower() == "true"
                if decrement and group.desired_capacity - 1 < group.min_size:
                    raise Refusal("ValidationError", f"Currently, desiredSize equals minSize ({group.min_size}). "
                                  "Terminating instance without replacement will violate group's min size "
                                  "constraint.")  # fmt: skip
                answer = self._forward(request)
                self._turn(request.region, identity, "shutting-down", "terminated", self._stop)
                return answer
        raise Refusal(
            "ValidationError", f"Instance Id not found - No managed instance found for instance ID {identity}"
        )

    def _do_describe_scaling_activities(self, request: _Request):
        _, told = self._group(request)
        rows = "".join(
            "<member>" + "".join(f"<{key}>{escape(value)}</{key}>" for key, value in one.items()) + "</member>"
            for one in told.activities
        )
        return _xml(
            '<DescribeScalingActivitiesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
            f"<DescribeScalingActivitiesResult><Activities>{rows}</Activities></DescribeScalingActivitiesResult>"
            "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></DescribeScalingActivitiesResponse>"
        )

    # Quotas and prices.

    def _do_get_service_quota(self, request: _Request):
        code = request.parameters["QuotaCode"]
        if code not in QUOTAS:
            raise Refusal("NoSuchResourceException", f"The request failed because the quota {code} does not exist.")
        quota = {"ServiceCode": "ec2", "QuotaCode": code, "QuotaName": QUOTAS[code][0], "Value": self._limits[code]}
        return _json({"Quota": quota})

    def _do_get_products(self, request: _Request):
        listed = [
            json.dumps({
                "product": {"attributes": {"instanceType": kind}}, "publicationDate": "2026-11-01T00:00:00Z",
                "terms": {"OnDemand": {"t": {"priceDimensions": {"d": {
                    "unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"},
                }}}}},
            })
            for kind, usd in self._prices.items()
        ]  # fmt: skip
        return _json({"FormatVersion": "aws_v1", "PriceList": listed})


class _Quiet(MotoRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing: the emulator keeps its own records."""


def _read(environ: dict) -> _Request:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    region, service = scope.groups() if scope else ("us-east-1", "")
    if service == "eks":
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        action, told = eks.named(environ["REQUEST_METHOD"], path, query, body)
        return _Request(service, region, action, told, environ, body)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        parameters = {key: value for key, value in json.loads(body or b"{}").items() if isinstance(value, str)}
        return _Request(service, region, target.rpartition(".")[2], parameters, environ, body)
    parameters = {key: values[0] for key, values in parse_qs(body.decode(), keep_blank_values=True).items()}
    return _Request(service, region, parameters.get("Action", ""), parameters, environ, body)


def _of_length(headers: list) -> list:
    """Leave out a length that does not hold any more: the server counts anew."""
    return [(name, value) for name, value in headers if name.lower() != "content-length"]


def _listed(parameters: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in sorted(parameters.items()) if re.fullmatch(rf"{name}\.\d+", key)]


def _refused(service: str, refusal: Refusal) -> tuple[str, list, bytes]:
    code, message = escape(refusal.code), escape(refusal.message)
    status = f"{refusal.status} Refused"
    if service == "ec2":
        body = (f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                "<RequestID>r</RequestID></Response>")  # fmt: skip
    elif service == "autoscaling":
        body = (f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                "<RequestId>r</RequestId></ErrorResponse>")  # fmt: skip
    else:
        body = json.dumps({"__type": refusal.code, "message": refusal.message})
    return status, [("Content-Type", "text/xml"), ("x-amzn-ErrorType", refusal.code)], body.encode()


def _xml(text: str) -> tuple[str, list, bytes]:
    return "200 OK", [("Content-Type", "text/xml")], text.encode()


def _json(value: object) -> tuple[str, list, bytes]:
    return "200 OK", [("Content-Type", "application/x-amz-json-1.1")], json.dumps(value).encode()


def _activity(group: str, at: datetime, status: str, message: str) -> dict[str, str]:
    return {
        "ActivityId": uuid.uuid4().hex, "AutoScalingGroupName": group, "Description": "Launching a new EC2 instance",
        "Cause": "a change of the desired capacity", "StartTime": at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "StatusCode": status, "StatusMessage": message, "Progress": "100",
    }  # fmt: skip


def main() -> None:
    """Serve until interrupted; the lines printed are the address, and the id of the instance that is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=4580)
    emulator = Emulator(SystemClock())
    emulator.start(parser.parse_args().port)
    ec2 = emulator.client("ec2")
    template = {"ImageId": emulator.image(), "InstanceType": "m7i.2xlarge"}
    ec2.create_launch_template(LaunchTemplateName="trainer", LaunchTemplateData=template)
    launched = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": "trainer"}, InstanceType="m7i.2xlarge", MinCount=1, MaxCount=1,
        Placement={"AvailabilityZone": "us-east-1a"},
    )  # fmt: skip
    print(emulator.url, launched["Instances"][0]["InstanceId"], sep="\n", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    emulator.close()


if __name__ == "__main__":
    main()
