"""Edge: which permissions the credentials lack, and which they had better not have, asked beforehand. Changes nothing.

``testIamPermissions`` answers for the project as a whole. A permission that is granted on one instance only shows when
that instance is asked. Where neither can be asked, what is missing stays unknown until it is needed. Reads are made,
see ``check``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from providers.base import Subject
from providers.errors import NotFound, NotPermitted, Refused
from providers.gcp import check
from providers.gcp.client import Client
from providers.gcp.errors import disabled
from providers.types import Target, TargetKind

CHANGES: Mapping[TargetKind, tuple[str, ...]] = {
    "vm": (
        "compute.instances.stop", "compute.instances.start", "compute.instances.setMachineType",
        "compute.instances.setScheduling", "compute.instances.setMachineResources",
    ),
    "group": ("compute.instanceGroupManagers.update",),
    "pool": ("compute.instanceGroupManagers.update", "container.clusters.update"),
}  # fmt: skip
"""What changing a target in place takes."""
LAUNCHES = (
    "compute.instances.create", "compute.instances.delete", "compute.instances.setLabels", "compute.disks.create",
    "compute.instanceTemplates.useReadOnly", "compute.subnetworks.use", "compute.images.useReadOnly",
)  # fmt: skip
"""What a new machine from a template takes beyond that."""
DANGEROUS = (
    "compute.instances.setMetadata", "compute.instances.setServiceAccount",
    "compute.projects.setCommonInstanceMetadata", "resourcemanager.projects.setIamPolicy",
)  # fmt: skip
"""Never needed, and enough to become root on a machine or anybody in the project."""


class Permissions:
    """Asks for the calls that this provider makes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def lacking(self, subjects: Sequence[Subject]) -> list[str]:
        """Name the permissions that are not there, by Google's names, each with what it is needed on."""
        pools = any(one.target.kind == "pool" for one in subjects)
        wanted = [read for read in check.READS if pools or read[1] != "clusters"]
        found = dict.fromkeys(name for name, text in check.asked(self._client, wanted).items() if text is not None)
        changed = [one for one in subjects if one.changed]
        held = self._held(sorted({name for one in changed for name in _needed(one)}))
        for one in changed:
            found.update(dict.fromkeys(self._missing(one, held)))
        return list(found)

    def excess(self) -> list[str]:
        """Name those that are there and had better not be."""
        held = self._held(DANGEROUS) or frozenset()
        return [name for name in DANGEROUS if name in held]

    def _held(self, names: Sequence[str]) -> frozenset[str] | None:
        """Ask which of some permissions are granted on the project; ``None`` where its API is not turned on."""
        if not names:
            return frozenset()
        try:
            return self._client.permissions(names)
        except NotPermitted as error:
            if disabled(error):
                return None
            raise

    def _missing(self, subject: Subject, held: frozenset[str] | None) -> Iterator[str]:
        needed = _needed(subject)
        missing = [name for name in needed if held is not None and name not in held]
        if subject.target.kind == "vm" and (missing or held is None):
            own = [name for name in needed if name in CHANGES["vm"]]
            granted = self._on_instance(subject.target, own)
            missing = [name for name in missing if name not in own]
            missing += [
                name for name in own if granted is not None and name not in (held or ()) and name not in granted
            ]
        for name in missing:
            about = self._client.project if name in LAUNCHES else subject.target.id
            yield f"{name} on {about}"

    def _on_instance(self, target: Target, names: Sequence[str]) -> frozenset[str] | None:
        with suppress(NotFound, Refused):  # not there: that is told elsewhere
            answer = self._client.read(
                "instances", "test_iam_permissions", zone=target.place, resource=target.id,
                test_permissions_request_resource={"permissions": list(names)},
            )  # fmt: skip
            return frozenset(answer.permissions)
        return None


def _needed(subject: Subject) -> tuple[str, ...]:
    launches = LAUNCHES if subject.recipe is not None and subject.target.kind == "vm" else ()
    return (*CHANGES[subject.target.kind], *launches)
