"""The reads that are tried are those that the shipped permissions allow, all of them, and nothing that changes."""

import json
from pathlib import Path

from ruamel.yaml import YAML

from providers.aws import check as aws
from providers.gcp import check as gcp

IAM = Path(__file__).parents[2] / "deploy" / "iam"


def test_every_read_of_aws_is_tried():
    (look,) = json.loads((IAM / "aws" / "read-only.json").read_text())["Statement"]
    rows = {permission: (service, method) for permission, service, method, _ in aws.READS}
    assert set(rows) == set(look["Action"])
    for permission, (_, method) in rows.items():
        assert permission.partition(":")[2] == "".join(part.title() for part in method.split("_"))


def test_every_read_of_google_is_tried():
    role = YAML(typ="safe").load((IAM / "gcp" / "read-only.yaml").read_text())
    rows = [permission for permission, *_ in gcp.READS]
    assert sorted(rows) == sorted(role["includedPermissions"])
