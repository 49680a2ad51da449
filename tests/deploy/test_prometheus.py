"""Alert rules and dashboards' expressions: read by promtool, tried on invented days, and about figures that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.tools import DEPLOY, run

FOLDER = DEPLOY / "prometheus"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
OPERATION = json.loads((DEPLOY / "grafana" / "dashboards" / "operation.json").read_text("utf-8"))


def expressions() -> list[tuple[str, str, str]]:
    """(where, expression, texts that name labels) of every alert and every panel."""
    found = [(rule["alert"], rule["expr"], str(rule["annotations"])) for rule in RULES]
    for panel in OPERATION["panels"]:
        found += [(panel["title"], t["expr"], t["legendFormat"]) for t in panel.get("targets", [])]
    return found


def test_promtool_accepts_rules_and_configuration() -> None:
    for words in (("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml")):
        done = run("promtool", *words, folder=FOLDER)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_fires_for_its_fault_and_an_ordinary_day_is_silent() -> None:
    done = run("promtool", "test", "rules", "alerts.test.yml", folder=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_word_for_the_person_on_duty() -> None:
    tried = (FOLDER / "alerts.test.yml").read_text("utf-8")
    for rule in RULES:
        assert rule["alert"] in tried
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["do"]


@pytest.mark.parametrize("alert", [rule["alert"] for rule in RULES])
def test_the_rule_tests_notice_an_alert_that_never_fires(alert: str, tmp_path: Path) -> None:
    rules: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == alert:
                rule["expr"] = f"({rule['expr']}) and on() vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "alerts.test.yml").write_bytes((FOLDER / "alerts.test.yml").read_bytes())
    assert run("promtool", "test", "rules", "alerts.test.yml", folder=tmp_path).returncode != 0


def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression, _) in enumerate(expressions())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = run("promtool", "check", "rules", tmp_path / "panels.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_every_figure_and_label_is_on_the_real_page(metrics_page: str) -> None:
    labels: dict[str, set[str]] = {"up": {"job", "instance"}}
    for family in text_string_to_metric_families(metrics_page):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for where, expression, texts in expressions():
        names = set(re.findall(r"\b(?:metergate_[a-z0-9_]+|up)\b", expression))
        assert names, where
        assert names <= set(labels), f"{where}: no such figure: {names - set(labels)}"
        known = set().union(*(labels[name] for name in names))
        used = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {word.strip() for word in group.split(",")}
        used |= set(re.findall(r"\$labels\.(\w+)", texts)) | set(re.findall(r"{{(\w+)}}", texts))
        assert used <= known, f"{where}: no such label: {used - known}"


def test_a_label_that_a_sum_drops_is_not_shown() -> None:
    for where, expression, texts in expressions():
        shown = set(re.findall(r"\$labels\.(\w+)", texts)) | set(re.findall(r"{{(\w+)}}", texts))
        if re.match(r"\(?(sum|count|max|histogram_quantile)\b", expression):
            kept = {
                word.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for word in group.split(",")
            }
            assert shown <= kept, where


def test_prometheus_asks_where_the_api_is() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert job["job_name"] == "metergate"  # the alert on `up` names it
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8080"]}]
    assert job["metrics_path"] == "/metrics"
