"""Edge: the first files for a cloud's account, and whether its credentials allow what the daemon reads."""

import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from shlex import quote

from ruamel.yaml import YAML

from api.client_http import Failure
from api.text import plain
from providers import catalog, registry
from providers.errors import NotFound, ProviderError

IAM = Path(__file__).parent / "iam"
"""The files of ``deploy/iam``, which is linked here so that they are installed too."""
CLOUDS = {"aws": "AWS", "gcp": "Google Cloud"}
_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_POLICY = """\
# Written by 'scaleahead init {cloud}'. An edit is in force within two seconds; check it with 'scaleahead policy check'.
scaleahead: 1
policies:
  default:
    kind: cost_per_progress            # dollars per unit of progress, plus the value of your time
    value_of_time_usd_per_hour: 5
    limits:
      usd_per_hour: 40
      offers: {{allow: ["{allow}"]}}
    safety: {{memory_quantile: 0.99, memory_margin: 0.08}}
    moves: {{max_per_hour: 2, cooldown_minutes: 10, payback_quantile: 0.2}}
    mode: {{default: recommend}}         # nothing is moved; next: approve, then auto, for each kind of action
"""


def write(cloud: str, options: Mapping[str, str], folder: Path, permissions: str, force: bool) -> list[Path]:
    """Write configuration, policy and permissions into a folder, and list them in this order.

    ``options`` are the provider's. A file that is there and is another is only written over with ``force``; without
    it nothing is written. Raises ``Failure``.
    """
    files = _files(cloud, options, folder, permissions)
    try:
        others = [path for path, text in files.items() if path.exists() and path.read_bytes() != text.encode()]
        if others and not force:
            named = ", ".join(plain(path) for path in others)
            raise Failure(f"{named} would be overwritten - name another folder with --into, or give --force", 2)
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}.new")
            draft.write_text(text, "utf-8")
            draft.replace(path)
    except OSError as error:
        where = plain(error.filename or folder)
        raise Failure(f"{where} cannot be written ({error.strerror}) - name another folder with --into", 2) from None
    return list(files)


def _files(cloud: str, options: Mapping[str, str], folder: Path, permissions: str) -> dict[Path, str]:
    levels = {path.stem: path for path in sorted((IAM / cloud).iterdir())}
    if permissions not in levels:
        raise Failure(f"there are no permissions {plain(permissions)!r} - choose of {', '.join(levels)}", 2)
    allow = _allowed(cloud, options)
    try:
        registry.connect_all({cloud: options})
    except ProviderError as error:
        raise Failure(plain(error), 2) from None
    policies = folder / "policies.yaml"
    text = StringIO()
    YAML().dump({"policies": [str(policies)], "providers": {cloud: dict(options)}}, text)
    start = f"scaleahead serve --config {quote(str(folder / 'config.yaml'))}"
    head = f"# Written by 'scaleahead init {cloud}'. Start with: {plain(start)}\n"
    source = levels[permissions]
    return {
        folder / "config.yaml": head + text.getvalue(),
        policies: _POLICY.format(cloud=cloud, allow=allow),
        folder / f"iam-{permissions}{source.suffix}": source.read_text("utf-8"),
    }


def _allowed(cloud: str, options: Mapping[str, str]) -> str:
    """Give the pattern of the offers that the policy lets in; refuse a region or project that cannot be one."""
    if cloud == "gcp":
        if not _PROJECT.fullmatch(options["project"]):
            raise Failure(f"{plain(options['project'])!r} is no project id - see 'gcloud projects list'", 2)
        return "gcp/*"
    priced = sorted({offer.region for offer in catalog.load().offers(cloud)})
    if options["region"] not in priced:
        raise Failure(
            f"there are no prices for the region {plain(options['region'])!r} - there are for {', '.join(priced)}", 2
        )
    return f"aws/{options['region']}/*"


def reads(cloud: str, options: Mapping[str, str]) -> dict[str, str | None]:
    """Try the credentials: for each permission ``None`` if it is allowed, else what the cloud says.

    Raises ``Failure`` where the cloud cannot be asked, or knows no such project.
    """
    try:
        if cloud == "aws":
            from providers.aws import check as aws

            return aws.reads(options["region"], options.get("profile"), options.get("endpoint"))
        from providers.gcp import check as gcp

        return gcp.reads(options["project"], options.get("endpoint"))
    except NotFound as error:
        raise Failure(f"the files are written, but {CLOUDS[cloud]} says: {plain(error)} - is the name right?") from None
    except ProviderError as error:
        text = f"the files are written, but {CLOUDS[cloud]} cannot be asked: {plain(error)}"
        raise Failure(f"{text} - mend that and give the same command again") from None


def lacking(cloud: str, reads: Mapping[str, str | None], permissions: Path) -> str | None:
    """Say in one line what the credentials lack; ``None`` if nothing. ``permissions`` is the file that has it."""
    refused = {permission: text for permission, text in reads.items() if text is not None}
    if not refused:
        return None
    named = "every read" if len(refused) == len(reads) else ", ".join(refused)
    first = plain(next(iter(refused.values())))
    start = f"the files are written, but {CLOUDS[cloud]} refuses {named}: {first}"
    return f"{start}; {plain(permissions)} holds what is needed - then give the same command again"
