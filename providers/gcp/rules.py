"""Pure decisions: what a Compute Engine instance is and what it may become, from what Google says of it.

Instances are the client's own ``compute_v1.Instance`` values, read here and nowhere else.
"""

import re
from collections.abc import Mapping
from typing import Any

from providers.types import Buying, InPlace, MachineState, Offer, Replace, Route, Same

Answer = Any

STATES: Mapping[str, MachineState] = {
    "PROVISIONING": "pending", "STAGING": "pending", "RUNNING": "running", "STOPPING": "stopping",
    "PENDING_STOP": "stopping", "SUSPENDING": "stopping", "SUSPENDED": "stopped", "TERMINATED": "stopped",
}  # fmt: skip

ACCELERATORS: Mapping[str, str] = {
    "T4": "nvidia-tesla-t4", "V100": "nvidia-tesla-v100", "P100": "nvidia-tesla-p100", "P4": "nvidia-tesla-p4",
}  # fmt: skip
_MODELS = {accelerator: model for model, accelerator in ACCELERATORS.items()}

# Their GPUs belong to the machine type; a machine of another family is not turned into one of these, nor back.
GPU_FAMILIES = ("a2", "a3", "a4", "a4x", "g2", "g4")
# They take Hyperdisk only, so that a boot disk of another family does not fit, and theirs fits no other.
HYPERDISK_FAMILIES = ("c4", "c4a", "c4d", "n4", "n4d", "h4d", "x4", "m4")
ARM_FAMILIES = ("t2a", "c4a", "n4a", "a4x")

CUSTOM: Mapping[str, tuple[int, float, float]] = {
    "n1": (96, 0.9, 6.5), "n2": (128, 0.5, 8.0), "n2d": (96, 0.5, 8.0), "e2": (32, 0.5, 8.0),
}  # fmt: skip
"""Families with custom machine types: the most vCPUs, and the least and most memory of each, in GiB ("Custom VMs")."""
_CUSTOM = re.compile(r"(?:[a-z0-9]+-)?custom-(?P<cpus>[1-9][0-9]*)-(?P<mib>[1-9][0-9]*)(?:-ext)?")

# GKE labels what it makes with the cluster and the node pool.
CLUSTER_LABEL, POOL_LABEL = "goog-k8s-cluster-name", "goog-k8s-node-pool-name"

MIGRATES, TERMINATES = "MIGRATE", "TERMINATE"


def last(url: str) -> str:
    """Give the name at the end of a resource's address."""
    return url.rpartition("/")[2]


def state(instance: Answer) -> MachineState:
    """Read an instance's state; one that this code does not know is unknown, never guessed."""
    return STATES.get(str(instance.status), "unknown")


def zone(resource: Answer) -> str:
    """Name the zone of an instance or a group."""
    return last(resource.zone)


def place(group: Answer) -> str:
    """Name the zone or the region of a managed group."""
    return last(group.zone or group.region)


def model(accelerator_type: str) -> str:
    """Name the GPU model of an accelerator type as offers do; one that is not known keeps Google's name."""
    kind = last(accelerator_type)
    return _MODELS.get(kind, kind)


def pool_of(labels: Mapping[str, str]) -> str:
    """Name the GKE node pool that made a group, as cluster/name, by the labels of its template; "" if none did."""
    return f"{labels[CLUSTER_LABEL]}/{labels[POOL_LABEL]}" if {CLUSTER_LABEL, POOL_LABEL} <= set(labels) else ""


def machine_type(instance: Answer) -> str:
    """Name the machine type of an instance."""
    return last(instance.machine_type)


def family(kind: str) -> str:
    """Give the family of a machine type: what stands before the first dash. A custom one without a family is an N1."""
    name = kind.partition("-")[0]
    return "n1" if name == "custom" else name


def custom(kind: str) -> tuple[int, int] | None:
    """Read vCPUs and memory (MiB) of a custom machine type, as n2-custom-8-32768; ``None`` for any other."""
    found = _CUSTOM.fullmatch(kind)
    return (int(found["cpus"]), int(found["mib"])) if found else None


def malformed(kind: str) -> str:
    """Say why there can be no such custom machine type, "" if there can, or if it is not a custom one."""
    shape, bounds = custom(kind), CUSTOM.get(family(kind))
    if shape is None:
        return ""
    if bounds is None:
        return f"there are no custom {family(kind)} machines"
    cpus, mib = shape
    most, least_gib, most_gib = bounds
    if cpus > most or (cpus != 1 and cpus % 2):
        return f"a custom {family(kind)} machine has 1 or an even number of vCPUs up to {most}"
    if mib % 256:
        return "the memory of a custom machine is a multiple of 256 MiB"
    if mib < 1024 * least_gib * cpus or (mib > 1024 * most_gib * cpus and not kind.endswith("-ext")):
        return f"a custom {family(kind)} machine has {least_gib:g} to {most_gib:g} GiB a vCPU, or a name ending in -ext"
    return ""


def buying(instance: Answer) -> Buying:
    """Say how an instance is bought."""
    scheduling = instance.scheduling
    return "spot" if scheduling.provisioning_model == "SPOT" or scheduling.preemptible else "on_demand"


def attached(instance: Answer) -> tuple[int, str]:
    """Give how many GPUs are attached to an N1 and of which model; those of a machine type do not count."""
    if family(machine_type(instance)) != "n1":
        return 0, ""
    for one in instance.guest_accelerators:
        return int(one.accelerator_count), model(one.accelerator_type)
    return 0, ""


def kind(instance: Answer) -> str:
    """Name what an instance is as offers do: its type, with its attached GPUs."""
    count, model = attached(instance)
    return machine_type(instance) + (f"+{count}x{model}" if count else "")


def wanted_kind(offer: Offer) -> str:
    """Name what an offer is in the same way."""
    return offer.machine_type + (f"+{offer.attached_gpus}x{offer.resources.gpu_model}" if offer.attached_gpus else "")


def needed_maintenance(offer: Offer) -> str:
    """Say what must happen to an offer's machine on host maintenance: one with GPUs cannot migrate."""
    return TERMINATES if offer.resources.gpus else MIGRATES


def missing(instance: Answer, offer: Offer) -> tuple[str, ...]:
    """Name the aspects that still differ, in the order in which Compute Engine lets them be changed.

    GPUs come off before the type changes, and go on only after the scheduling says that the machine may be ended.
    """
    count, model = attached(instance)
    wanted = (offer.attached_gpus, offer.resources.gpu_model) if offer.attached_gpus else (0, "")
    aspects = {
        "machine_type": machine_type(instance) != offer.machine_type,
        "scheduling": str(instance.scheduling.on_host_maintenance) != needed_maintenance(offer),
        "accelerators": (count, model) != wanted,
    }  # fmt: skip
    off = bool(count) and not offer.attached_gpus
    order = ("accelerators", "machine_type", "scheduling") if off else ("machine_type", "scheduling", "accelerators")
    return tuple(aspect for aspect in order if aspects[aspect])


def impossible(instance: Answer, offer: Offer) -> str:
    """Say why an instance's image cannot run on an offer at all, "" if it can."""
    ours = family(machine_type(instance)) in ARM_FAMILIES
    if ours != (family(offer.machine_type) in ARM_FAMILIES):
        return "the image is of another processor architecture"
    if why := malformed(offer.machine_type):
        return why
    if offer.attached_gpus and family(offer.machine_type) != "n1":
        return f"GPUs can be attached to N1 machine types only, not to {offer.machine_type}"
    if offer.attached_gpus and offer.resources.gpu_model not in ACCELERATORS:
        return f"a {offer.resources.gpu_model} cannot be attached"
    return ""


def not_in_place(instance: Answer, offer: Offer) -> str:
    """Say why an instance cannot become an offer by stop, change, start; "" if it can."""
    here, there = family(machine_type(instance)), family(offer.machine_type)
    if offer.zone not in (None, zone(instance)) or not zone(instance).startswith(offer.region):
        return f"an instance in {zone(instance)} cannot move to {offer.zone or offer.region} in place"
    if buying(instance) != offer.buying:
        return f"an instance bought {buying(instance)} does not become {offer.buying} in place"
    if manager(instance):
        return f"it belongs to the managed group {manager(instance)}, which heals what is stopped"
    if any(disk.type_ == "SCRATCH" for disk in instance.disks):
        return "it has local SSDs, whose content a stop loses"
    if instance.min_cpu_platform:
        return f"its minimum CPU platform {instance.min_cpu_platform} binds it to its family"
    kinds = ((GPU_FAMILIES, "GPUs belong to the type"), (HYPERDISK_FAMILIES, "disks are of another kind"))
    for families, why in kinds:
        if here != there and (here in families or there in families):
            return f"{here} does not become {there} in place: {why}"
    return ""


def manager(instance: Answer) -> str:
    """Name the managed group that made an instance, "" if none did."""
    for item in instance.metadata.items:
        if item.key == "created-by" and "/instanceGroupManagers/" in str(item.value):
            return last(str(item.value))
    return ""


def way(instance: Answer, offer: Offer) -> Route:
    """Name the way from an instance to an offer, its image being able to run there."""
    why = not_in_place(instance, offer)
    if why:
        return Replace(why)
    aspects = missing(instance, offer)
    return InPlace(aspects) if aspects else Same()


def cpu_metric(kind: str, spot: bool) -> str:
    """Name the regional quota that counts the vCPUs of a machine type."""
    if spot:
        return "PREEMPTIBLE_CPUS"
    name = family(kind)
    return "CPUS" if name in ("n1", "e2", "f1", "g1") else f"{name.upper()}_CPUS"


def gpu_metric(model: str, spot: bool) -> str:
    """Name the regional quota that counts GPUs of a model."""
    name = f"NVIDIA_{model.upper().removesuffix('-40GB').replace('-', '_').replace(' ', '_')}_GPUS"
    return f"PREEMPTIBLE_{name}" if spot else name
