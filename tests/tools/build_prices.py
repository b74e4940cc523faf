"""Edge: make the shipped price tables from source files named on the command line.

Only selected facts are taken over, each with the key of its source in ``providers/prices/sources.csv``. A price that no
source file holds stays an empty cell. What GCE machine types have is not in any source file: vCPUs stand in the type's
name, and the memory of a family's vCPU and the fixed shapes below are facts of the Compute Engine documentation; those
of CPU types are proved by the component prices before anything is written.
"""

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

OFFER_COLUMNS = [
    "provider",
    "region",
    "zone",
    "machine_type",
    "architecture",
    "vcpus",
    "memory_gib",
    "gpu_model",
    "gpus",
    "gpu_memory_gib",
    "network_gbps",
    "disk_mb_per_s",
    "on_demand_usd_per_hour",
    "price_source",
    "price_date",
    "spot_usd_per_hour",
    "spot_source",
    "spot_date",
    "hardware_source",
]
ATTACH_COLUMNS = [
    "provider",
    "region",
    "machine_prefix",
    "gpu_model",
    "gpus",
    "gpu_memory_gib",
    "min_vcpus",
    "max_vcpus",
    "max_memory_gib",
    "on_demand_usd_per_hour_each",
    "price_source",
    "price_date",
    "spot_usd_per_hour_each",
    "spot_source",
    "spot_date",
    "hardware_source",
]

AWS_LIST_DATE = "2026-07-20"
# The source says no more than "2025-26". The earliest day is taken, so that no price counts as fresher than it is.
AWS_SPOT_DATE = "2025-01-01"
GCP_LIST_DATE = "2026-08-03"
GCP_PARTS_DATE = "2026-06-22"

AWS_GPU_FAMILIES = [
    "g4dn",
    "g5",
    "g5g",
    "g6",
    "gr6",
    "g6e",
    "g7",
    "g7e",
    "p3",
    "p3dn",
    "p4d",
    "p4de",
    "p5",
    "p5e",
    "p5en",
    "p6-b200",
    "p6-b300",
]
AWS_CPU_FAMILIES = [
    "c5",
    "c5n",
    "c6i",
    "c6a",
    "c7i",
    "c7a",
    "c8i",
    "m5",
    "m5n",
    "m6i",
    "m6a",
    "m7i",
    "m7a",
    "m8i",
    "r5",
    "r5a",
    "r5n",
    "r6i",
    "r6a",
    "r7i",
    "r7a",
    "r8i",
    "x1",
    "x1e",
    "x2idn",
    "x2iedn",
    "z1d",
    "c7g",
    "m7g",
    "r7g",
]
AWS_MORE_REGIONS = ("us-west-2", "eu-west-1")
AWS_GPU_NAMES = {"T4g": "T4G", "RTX PRO 4500": "RTX-PRO-4500", "RTX PRO Server 6000": "RTX-PRO-6000"}
# Types that EC2 no longer describes but still sells at a list price: vCPUs, memory, GPUs (V100 of 16 GiB), EBS MB/s.
AWS_P3 = {
    "p3.2xlarge": (8, 61, 1, 218.75),
    "p3.8xlarge": (32, 244, 4, 875),
    "p3.16xlarge": (64, 488, 8, 1750),
}

GCP_REGIONS = ("us-central1", "europe-west4", "asia-southeast1")
# GiB of memory a vCPU. Compute Engine documentation, machine families.
GCP_MEMORY_PER_VCPU = {
    "n1-standard": 3.75, "n1-highmem": 6.5, "n1-highcpu": 0.9, "n2-standard": 4, "n2-highmem": 8, "n2-highcpu": 1,
    "e2-standard": 4, "e2-highmem": 8, "e2-highcpu": 1, "c2-standard": 4, "c3-standard": 4, "c3-highmem": 8,
    "c3-highcpu": 2,
}  # fmt: skip
# Gbps up to this many vCPUs. Compute Engine documentation, default egress bandwidth.
GCP_NETWORK = {
    "n1": ((1, 2), (7, 10), (15, 16), (96, 32)),
    "n2": ((7, 10), (15, 16), (128, 32)),
    "e2": ((2, 4), (4, 8), (32, 16)),
    "c2": ((4, 10), (8, 16), (60, 32)),
    "c3": ((22, 23), (44, 32), (88, 62), (176, 100)),
}
# Shapes that no rule gives: vCPUs, GiB, Gbps, GPU model, GPUs. Compute Engine documentation, accelerator-optimized and
# memory-optimized machine families.
GCP_SHAPES: dict[str, tuple[float, float, float, str, int]] = {
    "n2-highmem-128": (128, 864, 32, "", 0),
    "m1-ultramem-40": (40, 961, 32, "", 0),
    "m1-ultramem-80": (80, 1922, 32, "", 0),
    "m1-ultramem-160": (160, 3844, 32, "", 0),
    "m3-megamem-64": (64, 976, 32, "", 0),
    "m3-megamem-128": (128, 1952, 32, "", 0),
    "m3-ultramem-32": (32, 976, 32, "", 0),
    "m3-ultramem-64": (64, 1952, 32, "", 0),
    "m3-ultramem-128": (128, 3904, 32, "", 0),
    "g2-standard-4": (4, 16, 10, "L4", 1),
    "g2-standard-8": (8, 32, 16, "L4", 1),
    "g2-standard-12": (12, 48, 16, "L4", 1),
    "g2-standard-16": (16, 64, 32, "L4", 1),
    "g2-standard-24": (24, 96, 32, "L4", 2),
    "g2-standard-32": (32, 128, 32, "L4", 1),
    "g2-standard-48": (48, 192, 50, "L4", 4),
    "g2-standard-96": (96, 384, 100, "L4", 8),
    "g4-standard-48": (48, 180, 50, "RTX-PRO-6000", 1),
    "g4-standard-96": (96, 360, 100, "RTX-PRO-6000", 2),
    "g4-standard-192": (192, 720, 200, "RTX-PRO-6000", 4),
    "g4-standard-384": (384, 1440, 400, "RTX-PRO-6000", 8),
    "a2-highgpu-1g": (12, 85, 24, "A100-40GB", 1),
    "a2-highgpu-2g": (24, 170, 32, "A100-40GB", 2),
    "a2-highgpu-4g": (48, 340, 50, "A100-40GB", 4),
    "a2-highgpu-8g": (96, 680, 100, "A100-40GB", 8),
    "a2-megagpu-16g": (96, 1360, 100, "A100-40GB", 16),
    "a2-ultragpu-1g": (12, 170, 24, "A100-80GB", 1),
    "a2-ultragpu-2g": (24, 340, 32, "A100-80GB", 2),
    "a2-ultragpu-4g": (48, 680, 50, "A100-80GB", 4),
    "a2-ultragpu-8g": (96, 1360, 100, "A100-80GB", 8),
    "a3-highgpu-1g": (26, 234, 25, "H100", 1),
    "a3-highgpu-2g": (52, 468, 50, "H100", 2),
    "a3-highgpu-4g": (104, 936, 100, "H100", 4),
    "a3-highgpu-8g": (208, 1872, 1000, "H100", 8),
    "a3-megagpu-8g": (208, 1872, 1800, "H100", 8),
    "a3-ultragpu-8g": (224, 2952, 3600, "H200", 8),
    "a4-highgpu-8g": (224, 3968, 3600, "B200", 8),
}
# Listed in every region though no source file prices them.
GCP_WITHOUT_PRICE = ("a3-megagpu-8g", "a3-ultragpu-8g", "a4-highgpu-8g")
# GiB a card: what EC2's API says of the same card, which is what a program can use, not the round number on the box.
GPU_MEMORY_GIB = {
    "T4": 16, "P100": 16, "V100": 16, "L4": 22.3515625, "RTX-PRO-6000": 96, "A100-40GB": 40, "A100-80GB": 80,
    "H100": 80, "H200": 141, "B200": 179.0615234375,
}  # fmt: skip
# GPUs that N1 takes: count -> (least vCPUs worth offering, most vCPUs, most GiB). Compute Engine documentation, GPU
# platforms; P100's larger limit of some zones is not used.
GCP_ATTACH = {
    "T4": {1: (2, 48, 312), 2: (4, 48, 312), 4: (8, 96, 624)},
    "P100": {1: (2, 16, 104), 2: (4, 32, 208), 4: (8, 64, 208)},
    "V100": {1: (2, 12, 78), 2: (4, 24, 156), 4: (8, 48, 312), 8: (16, 96, 624)},
}
GCP_ATTACH_REGIONS = {
    "us-central1": ("T4", "P100", "V100"),
    "europe-west4": ("T4", "P100", "V100"),
    "asia-southeast1": ("T4",),
}

Row = dict[str, object]


def number(value: float | str | None) -> str:
    """Write a number as short as it can be without losing anything; nothing stays nothing."""
    return "" if value is None or value == "" else f"{float(value):.12g}"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def unpacked(path: Path) -> Any:
    with gzip.open(path, "rt") as file:
        return json.load(file)


def middle_spot(cell: str) -> float | None:
    """Take the middle of the zones' spot prices, the dearer of the two middle ones when their count is even."""
    prices = sorted(float(part.split("=")[1]) for part in cell.split(";") if part)
    return prices[len(prices) // 2] if prices else None


def aws_shape(machine_type: str, known: Mapping[str, Any], mbps: Mapping[str, str]) -> Row | None:
    """Say what an EC2 type has, or ``None`` where it has no whole GPU or is not known."""
    listed = float(mbps[machine_type]) / 1000 if mbps.get(machine_type) else None
    if machine_type in AWS_P3:
        vcpus, memory, gpus, disk = AWS_P3[machine_type]
        return {
            "architecture": "x86_64", "vcpus": vcpus, "memory_gib": memory, "gpu_model": "V100", "gpus": gpus,
            "gpu_memory_gib": 16, "network_gbps": number(listed), "disk_mb_per_s": number(disk),
            "hardware_source": "aws-p3",
        }  # fmt: skip
    facts = known.get(machine_type)
    if facts is None:
        return None
    cards = facts.get("GpuInfo", {}).get("Gpus", [])
    if any(card["Count"] < 1 for card in cards):
        return None
    network = listed or sum(card.get("BaselineBandwidthInGbps", 0) for card in facts["NetworkInfo"]["NetworkCards"])
    each = cards[0]["MemoryInfo"]["SizeInMiB"] / 1024 if cards else 0
    model = AWS_GPU_NAMES.get(cards[0]["Name"], cards[0]["Name"]) if cards else ""
    return {
        "architecture": "arm64" if "arm64" in facts["ProcessorInfo"]["SupportedArchitectures"] else "x86_64",
        "vcpus": facts["VCpuInfo"]["DefaultVCpus"],
        "memory_gib": number(facts["MemoryInfo"]["SizeInMiB"] / 1024),
        "gpu_model": f"A100-{each:.0f}GB" if model == "A100" else model,
        "gpus": sum(card["Count"] for card in cards),
        "gpu_memory_gib": number(each),
        "network_gbps": number(network or None),
        "disk_mb_per_s": number(facts.get("EbsInfo", {}).get("EbsOptimizedInfo", {}).get("BaselineThroughputInMBps")),
        "hardware_source": "moto",
    }


def aws_rows(listed: list[dict[str, str]], subset: list[dict[str, str]], moto: Path) -> Iterator[Row]:
    """Make the EC2 offers: all selected families in us-east-1, the GPU families and what is priced elsewhere."""
    known = unpacked(moto / "instance_types.json.gz")
    on_demand = {row["instance_type"]: row["usd_per_hour"] for row in listed}
    mbps = {row["instance_type"]: row["network_mbps"] for row in listed}
    priced = {(row["region"], row["instance_type"]): row for row in subset}
    for region in ("us-east-1", *AWS_MORE_REGIONS):
        place = moto / "instance_type_offerings" / "region" / f"{region}.json.gz"
        sold = {item["InstanceType"] for item in unpacked(place)}
        sold |= {name for where, name in priced if where == region}
        families = AWS_GPU_FAMILIES
        if region == "us-east-1":
            sold |= set(on_demand)
            families = AWS_GPU_FAMILIES + AWS_CPU_FAMILIES
        wanted = {name for name in sold if name.split(".")[0] in families or (region, name) in priced}
        for name in sorted(wanted, key=lambda name: (name.split(".")[0], float(on_demand.get(name) or 1e9), name)):
            shape = aws_shape(name, known, mbps)
            bare = ".metal" in name and not (shape and shape["gpus"])
            if shape is not None and not bare:
                yield aws_row(region, name, shape, on_demand, priced.get((region, name)))


def aws_row(region: str, name: str, shape: Row, on_demand: Mapping[str, str], subset: Mapping[str, str] | None) -> Row:
    row: Row = {"provider": "aws", "region": region, "machine_type": name, **shape}
    if region == "us-east-1" and on_demand.get(name):
        row |= {
            "on_demand_usd_per_hour": number(on_demand[name]),
            "price_source": "aws-list", "price_date": AWS_LIST_DATE,
        }  # fmt: skip
    elif subset:
        row |= {
            "on_demand_usd_per_hour": number(subset["on_demand_usd_h"]),
            "price_source": "aws-zones", "price_date": AWS_SPOT_DATE,
        }  # fmt: skip
    spot = middle_spot(subset["spot_usd_h_by_az"]) if subset else None
    if spot is not None:
        row |= {"spot_usd_per_hour": number(spot), "spot_source": "aws-zones", "spot_date": AWS_SPOT_DATE}
    return row


def gcp_shape(name: str) -> Row | None:
    """Say what a GCE type has, from its name and the documented rules, or ``None`` where it is not selected."""
    series, _, count = name.rpartition("-")
    if name in GCP_SHAPES:
        vcpus, memory, network, model, gpus = GCP_SHAPES[name]
    elif series in GCP_MEMORY_PER_VCPU and count.isdigit():
        vcpus, model, gpus = int(count), "", 0
        memory = vcpus * GCP_MEMORY_PER_VCPU[series]
        network = next(gbps for most, gbps in GCP_NETWORK[series.split("-")[0]] if vcpus <= most)
    else:
        return None
    return {
        "architecture": "x86_64", "vcpus": number(vcpus), "memory_gib": number(memory), "gpu_model": model,
        "gpus": gpus, "gpu_memory_gib": number(GPU_MEMORY_GIB[model] if model else 0),
        "network_gbps": number(network), "hardware_source": "gce-docs",
    }  # fmt: skip


def gcp_rows(listed: list[dict[str, str]]) -> Iterator[Row]:
    """Make the GCE offers of whole machine types in the selected regions."""
    prices = {(row["region"], row["machine_type"]): row for row in listed}
    for region in GCP_REGIONS:
        names = {name for where, name in prices if where == region} | set(GCP_WITHOUT_PRICE)
        for name in sorted(names, key=lambda name: (name.rpartition("-")[0], len(name), name)):
            shape = gcp_shape(name)
            if shape is None:
                continue
            row: Row = {"provider": "gcp", "region": region, "machine_type": name, **shape}
            price = prices.get((region, name))
            if price:
                row |= {
                    "on_demand_usd_per_hour": number(price["on_demand_usd_per_hour"]),
                    "price_source": "gcp-list", "price_date": GCP_LIST_DATE,
                    "spot_usd_per_hour": number(price["spot_usd_per_hour"]),
                    "spot_source": "gcp-list", "spot_date": GCP_LIST_DATE,
                }  # fmt: skip
            yield row


def attach_rows(parts: Mapping[tuple[str, str], float]) -> Iterator[Row]:
    """Make the rules and prices of attachable GPUs; only us-central1 has sourced prices."""
    for region, models in GCP_ATTACH_REGIONS.items():
        for model in models:
            for gpus, (least, most, memory) in GCP_ATTACH[model].items():
                row: Row = {
                    "provider": "gcp", "region": region, "machine_prefix": "n1-standard- n1-highmem-",
                    "gpu_model": model, "gpus": gpus, "gpu_memory_gib": number(GPU_MEMORY_GIB[model]),
                    "min_vcpus": least, "max_vcpus": most, "max_memory_gib": memory, "hardware_source": "gce-docs",
                }  # fmt: skip
                if region == "us-central1":
                    name = f"nvidia-tesla-{model.lower()}"
                    row |= {
                        "on_demand_usd_per_hour_each": number(parts["gpuPrices", name]),
                        "price_source": "gcp-parts", "price_date": GCP_PARTS_DATE,
                        "spot_usd_per_hour_each": number(parts["preemptibleGpuPrices", name]),
                        "spot_source": "gcp-parts", "spot_date": GCP_PARTS_DATE,
                    }  # fmt: skip
                yield row


def check_shapes(rows: Iterable[Row], parts: Mapping[tuple[str, str], float]) -> int:
    """Prove vCPUs and memory: with the component prices they must give the whole type's price within 2 %."""
    checked = 0
    for row in rows:
        series = str(row["machine_type"]).split("-")[0]
        cpu = parts.get(("predefinedCpuPricePerHour", series))
        gib = parts.get(("predefinedMemoryPricePerHourPerGb", series))
        price = row.get("on_demand_usd_per_hour")
        if cpu is None or gib is None or not price or row["gpus"] or row["region"] != "us-central1":
            continue
        expected = float(str(row["vcpus"])) * cpu + float(str(row["memory_gib"])) * gib
        # C3's list prices fell by 3.5 % between the two source files.
        if abs(expected / float(str(price)) - 1) > (0.07 if series == "c3" else 0.02):
            raise SystemExit(f"{row['machine_type']}: its parts cost {expected:.4f}, its list price is {price}")
        checked += 1
    return checked


def write(path: Path, columns: list[str], rows: Iterable[Row]) -> int:
    kept = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return len(kept)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aws-list", type=Path, required=True, help="instance_type,usd_per_hour,network_mbps")
    parser.add_argument("--aws-zones", type=Path, required=True, help="on-demand and spot per zone of some types")
    parser.add_argument("--gcp-list", type=Path, required=True, help="region,machine_type,on demand,spot")
    parser.add_argument("--gcp-parts", type=Path, required=True, help="table,name,usd_per_hour")
    parser.add_argument("--moto", type=Path, required=True, help="the folder moto/ec2/resources")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    parts = {(row["table"], row["name"]): float(row["usd_per_hour"]) for row in read(given.gcp_parts)}
    gcp = list(gcp_rows(read(given.gcp_list)))
    checked = check_shapes(gcp, parts)
    aws = aws_rows(read(given.aws_list), read(given.aws_zones), given.moto)
    print("aws", write(given.out / f"aws-{AWS_LIST_DATE}.csv", OFFER_COLUMNS, aws))
    print("gcp", write(given.out / f"gcp-{GCP_LIST_DATE}.csv", OFFER_COLUMNS, gcp), "shapes proved by price:", checked)
    print("attach", write(given.out / f"attach-{GCP_PARTS_DATE}.csv", ATTACH_COLUMNS, attach_rows(parts)))


if __name__ == "__main__":
    main(sys.argv[1:])
