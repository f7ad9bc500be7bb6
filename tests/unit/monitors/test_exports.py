"""What is written for Prometheus and Grafana speaks of the numbers that /metrics tells, and of no others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Kt

from kt.config import Settings
from kt.monitors import grafana, prometheus
from kt.predictor import metrics
from kt.store.batch import Traffic
from kt.store.labels import Labels
from kt.store.observed import Measured, Observed, Who

WHO = Who("m", "v1", "", "")


def told() -> set[str]:
    """The names of all samples that /metrics may tell."""
    recent = Traffic()
    recent.latency.add(1.0)
    seen = Observed(
        {WHO: Traffic(assigned=1)}, {WHO: recent}, {WHO: Labels(1, 1)}, {WHO: Labels(1, 1)},
        Observed().hour + Observed().hour.__class__(refused_late=1), [("m", "active", "drift")],
        [Measured("m", "active", "v1", "drift", 0.1, 500, "ok"), Measured("", "", "", "health", 0, 1, "ok")], 1,
    )  # fmt: skip
    families = [*metrics.traffic(seen), *metrics.outcomes(seen), *metrics.watching(seen)]
    names = {sample.name for family in families for sample in family.samples}
    return names | {"kt_tables_up", "kt_degraded", "kt_served_seq", "kt_build_info"}


def expressions(document: Any) -> list[str]:
    match document:
        case dict():
            here = [document["expr"]] if "expr" in document else []
            return [*here, *(one for each in document.values() for one in expressions(each))]
        case list():
            return [one for each in document for one in expressions(each)]
    return []


@pytest.mark.parametrize("document", [prometheus.rules(Settings()), grafana.dashboard()])
def test_every_name_is_one_that_metrics_tells(document: Any):
    found = expressions(document)
    assert len(found) > 5
    for expression in found:
        names = set(re.findall(r"\bkt_\w+", expression))
        assert names
        assert names <= told(), expression
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
    json.dumps(document)


def test_rules_follow_the_levels_of_kt_toml_and_of_each_model():
    settings = Settings.model_validate(
        {
            "threshold": [{"metric": "error_rate", "alert": 0.2}],
            "models": {"a.b": {"threshold": [{"metric": "accuracy", "limit": 0.7, "alert": 0.6}]}},
        }
    )
    groups = {group["name"]: group["rules"] for group in prometheus.rules(settings)["groups"]}
    assert set(groups) == {"kt", "kt a.b", "kt models"}
    own, others = ({one["alert"]: one["expr"] for one in groups[name]} for name in ("kt a.b", "kt models"))  # fmt: skip
    assert 'kt_accuracy_ratio{model="a.b"} < 0.6' in own["KtAccuracy"]
    assert 'kt_accuracy_ratio{model!~"a\\\\.b"} < 0.75' in others["KtAccuracy"]
    assert "> 0.2 and" in own["KtErrorRate"]
    assert "> 0.2 and" in others["KtErrorRate"]


def test_it_is_yaml_and_json_alike(tmp_path: Path, kt: Kt):
    assert kt("init", str(tmp_path / "w")).code == 0
    ran = kt("-C", str(tmp_path / "w"), "export", "prometheus-rules")
    rules = json.loads(ran.out)
    yaml = pytest.importorskip("yaml", reason="no reader of YAML is installed")
    assert yaml.safe_load(ran.out) == rules
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert json.loads(kt("export", "grafana").out)["title"] == "kt"
    assert kt("export", "nagios").code == 2


def test_panels_do_not_lie_on_each_other():
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in grafana.dashboard()["panels"]]
    assert len(set(places)) == len(places)
