"""Edge: ``scaleahead fsck``: the database against its laws and the clouds' truth."""

import os
from collections.abc import Mapping
from dataclasses import asdict

from api.client_http import Failure
from api.text import plain
from daemon import config as configuration
from daemon import fsck
from daemon.config import Config, ConfigError
from daemon.fsck import Finding, Survey, Truth
from daemon.store.base import StoreError
from daemon.store.survey import Surveyor
from providers import registry
from providers.base import Provider
from providers.clock import SystemClock
from providers.errors import NotFound, ProviderError
from providers.types import Allocation, Target

LABEL = "scaleahead-action"


def run(path: str | None, repair: bool, clouds: bool) -> dict[str, object]:
    """Check, and repair if told to. Gives ``findings``, ``repaired`` and ``left``, the number still broken.

    Raises ``Failure``.
    """
    try:
        config = configuration.read(path, os.environ)
        surveyor = Surveyor(config.database_url, SystemClock())
        try:
            return _checked(config, surveyor, repair, clouds)
        finally:
            surveyor.close()
    except ConfigError as error:
        raise Failure(plain(error), 2) from None
    except (StoreError, ProviderError) as error:
        raise Failure(plain(error)) from None


def _checked(config: Config, surveyor: Surveyor, repair: bool, clouds: bool) -> dict[str, object]:
    now = SystemClock().now()
    kept = surveyor.read()
    truth = asked(registry.connect_all(config.providers), kept) if clouds else Truth({}, ())
    findings = fsck.check(kept, truth, now)
    repaired = surveyor.repair(findings, now) if repair else []
    return {
        "findings": [asdict(finding) for finding in findings],
        "repaired": [finding.subject for finding in repaired],
        "left": len(findings) - len(repaired),
    }


def asked(providers: Mapping[str, Provider], kept: Survey) -> Truth:
    """Ask each cloud for what carries our label and for the targets of actions. Reads only."""
    silent: list[tuple[str, str]] = []
    labelled: list[Allocation] = []
    for name, provider in providers.items():
        # Listing by label is an optional ability.
        lists = getattr(provider, "labelled", None)
        try:
            labelled += lists(LABEL) if lists is not None else ()
        except ProviderError as error:
            silent.append((name, plain(error)))
    targets: dict[Target, Allocation | None] = {}
    for target in {one.action.target for one in kept.actions if one.action is not None}:
        try:
            there = providers.get(target.provider)
            targets[target] = there.describe(target) if there is not None else None
        except NotFound:
            targets[target] = None
        except ProviderError as error:
            silent.append((f"{target.provider}/{target.place}/{target.id}", plain(error)))
    return Truth(targets, labelled, silent)


def drawn(found: dict[str, object]) -> str:
    """Make the text that a person reads."""
    findings = found["findings"]
    assert isinstance(findings, list)
    repaired = found["repaired"]
    assert isinstance(repaired, list)
    lines = []
    for one in findings:
        finding = Finding(**one)
        mark = "repaired" if finding.subject in repaired and finding.repair else finding.law
        lines.append(plain(f"{mark}: {finding.subject}: {finding.text}"))
    if not lines:
        return "nothing is broken"
    could = sum(1 for one in findings if one["repair"]) - len(repaired)
    ending = f"; --repair would mend {could}" if could else ""
    return "\n".join([*lines, f"{found['left']} broken{ending}"])
