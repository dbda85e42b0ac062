"""The recommended workspace of W&B, as its server would get it; nothing here talks to one."""

import importlib.util
import json
import re

import pytest

from psegan.training.loggers import SUMMARIES
from tests.conftest import REPOSITORY
from tests.support.wandb_server import serving


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("workspace", REPOSITORY / "experiments" / "workspace.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_workspace_shows_what_runs_log(script, capsys):
    script.main(["me", "mine", "--print"])
    spec = json.loads(capsys.readouterr().out)
    sections = spec["section"]["panelBankConfig"]["sections"]
    shown = {one["name"]: one["panels"] for one in sections if one["panels"]}
    assert list(shown) == [
        "Evaluations: what counts", "Trainings: for watching, not for reporting", "Optimisation",
    ]  # fmt: skip
    evaluations, trainings, _ = shown.values()
    (scatter,) = (one["config"] for one in trainings if one["viewType"] == "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:val/emotion_uar.last", "summary:val/speaker_accuracy.last")
    assert "up and left" in scatter["chartTitle"]
    text = json.dumps(spec)
    nested = re.findall(r"summary:val/(\w+)\.last", text)
    assert nested and set(nested) <= set(SUMMARIES), "of others the summary has a plain number"
    assert "summary:val/trade_off" in text and "trade_off" not in SUMMARIES
    lines = [one["config"] for one in trainings if one["viewType"] == "Run History Line Plot"]
    assert [one["xAxis"] for one in lines] == ["epoch"] * 3, "steps count all optimisers of a system"
    bars = [one["config"] for one in evaluations if one["viewType"] == "Bar Chart"]
    assert ["emotion/strongest/uar"] in [one["metrics"] for one in bars]
    assert not any(one.get("groupBy") for one in bars), "bars are of the groups below"
    charts = [one["config"]["panelDefId"] for panels in shown.values() for one in panels if one["viewType"] == "Vega2"]
    assert charts == ["wandb/area-under-curve/v0", "wandb/confusion_matrix/v1", "wandb/area-under-curve/v0"]
    (runset,) = spec["section"]["runSets"]
    groups = ["jobType", "corpus.value", "split.value", "variant.value"]
    assert [key["name"] for key in runset["grouping"]] == groups, "nobody averages RAVDESS with Emo-DB"
    (filter,) = runset["filters"]["filters"]
    assert (filter["key"]["name"], filter["op"], filter["value"]) == ("tags", "NIN", ["shortened"])


def test_one_command_saves_it(script, monkeypatch):
    """To a stand-in for W&B's server; what the dashboard draws of it only W&B itself shows."""
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        script.main(["me", "mine"])
    (saved,) = server.asked["UpsertView2"]
    assert (saved["entityName"], saved["projectName"], saved["displayName"]) == ("me", "mine", "psegan")
    assert "Evaluations: what counts" in saved["spec"]
