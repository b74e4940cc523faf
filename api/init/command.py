"""Edge: the commands ``scaleahead init aws`` and ``init gcp``. What is heavy is imported by the one that runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from api.client_http import Failure
from api.text import plain

app = typer.Typer(help="Write the first files for a cloud, and check its credentials.", no_args_is_help=True)

Into = Annotated[Path, typer.Option(help="Folder to write into; this one if not told otherwise.")]
Permissions = Annotated[str, typer.Option(help="What the daemon may be allowed to do: read-only, in-place or replace.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that are there and are others.")]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Write only; do not try the credentials.")]
Endpoint = Annotated[str | None, typer.Option(help="Address of an emulator.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("aws")
def init_aws(
    region: Annotated[str, typer.Option(help="Region, such as us-east-1.")],
    profile: Annotated[str | None, typer.Option(help="Profile of the AWS configuration files.")] = None,
    into: Into = Path(),
    permissions: Permissions = "read-only",
    force: Force = False,
    no_check: NoCheck = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Write configuration, policy and least permissions for an AWS account; try its credentials by reading."""
    options = {"region": region, "profile": profile, "endpoint": endpoint}
    _init("aws", options, into, permissions, force, not no_check, as_json)


@app.command("gcp")
def init_gcp(
    project: Annotated[str, typer.Option(help="Id of the project.")],
    into: Into = Path(),
    permissions: Permissions = "read-only",
    force: Force = False,
    no_check: NoCheck = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Write configuration, policy and least permissions for a Google Cloud project; try its credentials by reading."""
    options = {"project": project, "endpoint": endpoint}
    _init("gcp", options, into, permissions, force, not no_check, as_json)


def _init(
    cloud: str, options: Mapping[str, str | None], folder: Path, permissions: str, force: bool, check: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from api.init import files

    told = {name: value for name, value in options.items() if value is not None}
    written = files.write(cloud, told, folder.absolute(), permissions, force)
    reads = files.reads(cloud, told) if check else {}
    lacking = files.lacking(cloud, reads, written[-1])
    if as_json:
        print(json.dumps({"files": [str(path) for path in written], "reads": reads}, indent=2))
    else:
        print("\n".join(f"written: {plain(path)}" for path in written))
        if reads and lacking is None:
            print(f"{files.CLOUDS[cloud]} allows all of the {len(reads)} kinds of read that are made")
            print(f"next: scaleahead serve --config {plain(quote(str(written[0])))}")
    if lacking is not None:
        raise Failure(lacking)
