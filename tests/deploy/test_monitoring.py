"""Alert rules and dashboard: every query is sound PromQL over series, labels and values that the daemon serves."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.deploy.conftest import Served
from tests.deploy.words import check

FOLDER = Path(__file__).parents[2] / "deploy"
ALERTS = Path(__file__).parent / "alerts.yaml"
BY_PROMETHEUS = {"up": {"job": {"scaleahead"}}}
"""What Prometheus itself adds; the value is the job's name in the scrape configuration."""


def rules() -> list[dict[str, Any]]:
    found = YAML(typ="safe").load((FOLDER / "prometheus" / "rules.yaml").read_text())
    assert set(found) == {"groups"}
    return [rule for group in found["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana" / "scaleahead.json").read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


QUERIES = sorted(queries())


@pytest.fixture(scope="module")
def figures(served: Served) -> Mapping[str, Mapping[str, set[str]]]:
    """Give every series' name with its labels and their values, as ``/metrics`` of the running daemon serves them."""
    served.text("/v1/jobs")
    served.register("one")
    found: dict[str, dict[str, set[str]]] = {name: dict(labels) for name, labels in BY_PROMETHEUS.items()}
    for family in text_string_to_metric_families(served.text("/metrics")):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for key, value in sample.labels.items():
                labels.setdefault(key, set()).add(value)
    return found


def selectors(query: str) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def grouped(query: str) -> set[str]:
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", query) for label in labels.split(",")}


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(QUERIES)])
def test_every_query_is_over_what_the_daemon_serves(
    name: str, query: str, figures: Mapping[str, Mapping[str, set[str]]]
) -> None:
    found = selectors(query)
    assert found
    for one in found:
        assert one.name in figures, f"{name}: no series {one.name}"
        labels = figures[one.name]
        for matcher in one.matchers.matchers:
            assert matcher.name in labels, f"{name}: {one.name} has no label {matcher.name}"
            if matcher.op == promql_parser.MatchOp.Equal:
                assert matcher.value in labels[matcher.name], f"{name}: {matcher.name} is never {matcher.value}"
    if wanted := grouped(query) - {"instance"}:  # that one is put there by Prometheus
        assert any(wanted <= set(figures[one.name]) for one in found), f"{name}: cannot be grouped by {wanted}"


def test_every_figure_of_the_daemon_is_looked_at(figures: Mapping[str, Mapping[str, set[str]]]) -> None:
    ours = {
        re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in figures if name.startswith("scaleahead_")
    }
    used = {re.sub(r"_(total|bucket|sum|count)$", "", one.name) for _, query in QUERIES for one in selectors(query)}
    assert ours - used == {"scaleahead_event_streams"}


@pytest.mark.parametrize("wrong", ["sum(rate(x[5m])", "rate(scaleahead_ready)", "x >> 1"])
def test_the_parser_refuses_what_is_wrong(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse(wrong)


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) >= 8
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        if "for" in rule:
            promql_parser.parse_duration(rule["for"])
        for command in re.findall(r"\bscaleahead (?:policy check FILE|[a-z]+(?: JOB)?)", str(rule["annotations"])):
            check(shlex.split(command))


def test_the_dashboard_is_whole() -> None:
    found = dashboard()
    (source,) = found["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {f"${{{source['name']}}}"}
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_scrape_asks_as_the_daemon_wants_to_be_asked() -> None:
    told = YAML(typ="safe").load((FOLDER / "prometheus" / "prometheus.yaml").read_text())
    (scrape,) = told["scrape_configs"]
    assert {scrape["job_name"]} == BY_PROMETHEUS["up"]["job"]
    assert (scrape["scheme"], scrape["metrics_path"], scrape["authorization"]["type"]) == (
        "https",
        "/metrics",
        "Bearer",
    )
    assert scrape["static_configs"][0]["targets"] == ["scaleahead:8642"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool - run make browser")
@pytest.mark.parametrize(
    "words",
    [
        ["test", "rules", str(ALERTS)],
        ["check", "rules", str(FOLDER / "prometheus" / "rules.yaml")],
        ["check", "config", "--syntax-only", str(FOLDER / "prometheus" / "prometheus.yaml")],
    ],
)
def test_promtool_finds_every_alert_raised_when_it_should_be(words: list[str]) -> None:
    ran = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tried_in_peace_and_in_trouble() -> None:
    peace, trouble = YAML(typ="safe").load(ALERTS.read_text())["tests"]
    names = {rule["alert"] for rule in rules()}
    assert {tried["alertname"] for tried in peace["alert_rule_test"]} == names
    assert {tried["alertname"] for tried in trouble["alert_rule_test"] if tried["exp_alerts"]} == names
