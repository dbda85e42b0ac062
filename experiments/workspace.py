"""Make the recommended W&B workspace of a project (docs/sweeps.md): python experiments/workspace.py ENTITY [PROJECT]."""

import argparse
import json
from collections.abc import Sequence

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr
from wandb_workspaces.reports.v2.interface import Panel

HYPERPARAMETERS = ("distortion_weight", "adversarial_weight", "speaker_weight")
"""Arguments of PSEGAN's constructor that are swept."""
JUDGED = {
    "Word error rate, by recogniser (lower is better)": ("words/moonshine/wer", "words/pocketsphinx/wer"),
    "Speaker EER, other sentences (lower is better)": ("speaker/resemblyzer/eer",),
    "DNSMOS (higher is better)": ("speech/dnsmos/overall",),
    "Loudest 20 ms against the original's, 95th percentile, dB (0 is best)": ("speech/level/loudest_p95",),
}
"""Title → scores of an evaluation by whoever measured; ``psegan evaluate`` calls a judge as its file does."""


def workspace(entity: str, project: str) -> ws.Workspace:
    """The workspace, as an object; nothing talks to a server before its ``save``."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name="psegan",
        sections=[
            ws.Section("Evaluations: what counts", evaluations(), is_open=True),
            ws.Section("Trainings: for watching, not for reporting", trainings(), is_open=True),
            ws.Section("Optimisation", optimisation(), is_open=False),
        ],
        settings=ws.WorkspaceSettings(max_runs=50),
        runset_settings=ws.RunsetSettings(
            # a class is one for PSEGAN and all its ablations, whose scores a group by class would average; a variant has
            # runs of several corpora and splits
            groupby=[expr.Metric("JobType"), *(expr.Config(key) for key in ("corpus", "split", "variant"))],
            filters=expr.And(expr.Tags().notin(["shortened"])),
            pinned_columns=[
                "run:displayName", "config:corpus.value", "config:split.value", "config:seed.value",
                "summary:emotion/strongest/uar", "summary:words/moonshine/wer", "summary:speaker/resemblyzer/eer",
                "summary:val/trade_off",
            ],
        ),
    )  # fmt: skip


def evaluations() -> list[Panel]:
    """Bars of the scores that count, their table, curves, maps and recordings."""
    bars = {
        "Emotion UAR, strongest attacker (lower is better)": ("emotion/strongest/uar",),
        "Bits of emotion, strongest attacker (lower is better)": ("emotion/strongest/bits",),
        **JUDGED,
    }
    return [
        # a bar a group of runs: a panel's own groups would be by a single key
        *(wr.BarPlot(title=title, metrics=list(names)) for title, names in bars.items()),
        wr.ScatterPlot(
            title="Strongest attacker and speaker: down and left is better",
            x=wr.SummaryMetric("emotion/strongest/uar"), y=wr.SummaryMetric("speaker/resemblyzer/eer"),
        ),
        wr.ScatterPlot(
            title="Strongest attacker and words: down and left is better",
            x=wr.SummaryMetric("emotion/strongest/uar"), y=wr.SummaryMetric("words/moonshine/wer"),
        ),
        _roc("Emotion ROC, by attacker", "roc/emotion_table"),
        _confusion("Emotions that the strongest attacker recognises", "confusion/strongest_table"),
        wr.MediaBrowser(title="t-SNE of emotion: an illustration, no evidence", media_keys=["t-SNE"], num_columns=3),
        wr.WeavePanelSummaryTable(table_name="scores"),
        wr.WeavePanelSummaryTable(table_name="recordings"),
    ]  # fmt: skip


def trainings() -> list[Panel]:
    """Scores of the classifiers that watch, over epochs, and what the sweeps choose by."""
    swept = [wr.ParallelCoordinatesPlotColumn(wr.Config(f"model.init_args.{name}")) for name in HYPERPARAMETERS]
    watched = ("val/emotion_uar.last", "val/speaker_accuracy.last", "val/trade_off")
    return [
        wr.LinePlot(title="Trade-off (higher is better)", x="epoch", y=["val/trade_off"]),
        wr.LinePlot(title="Emotion UAR (lower is better)", x="epoch", y=["val/emotion_uar"]),
        wr.LinePlot(title="Speaker accuracy (higher is better)", x="epoch", y=["val/speaker_accuracy"]),
        wr.ScatterPlot(
            title="Emotion and speaker: up and left is better",
            x=wr.SummaryMetric("val/emotion_uar.last"), y=wr.SummaryMetric("val/speaker_accuracy.last"),
        ),
        wr.ParallelCoordinatesPlot(
            title="Weights of the losses and what they lead to",
            columns=[*swept, *(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(name)) for name in watched)],
        ),
        _roc("Emotion ROC of the classifier that watches", "val/roc_emotion_curve_table"),
    ]  # fmt: skip


def optimisation() -> list[Panel]:
    """Losses, learning rates and gradients, over the steps of all optimisers."""
    return [
        wr.LinePlot(title=title, metric_regex=pattern)
        for title, pattern in {
            "Losses": "train/.*total|train/loss",
            "Learning rates": "train/.*learning_rate",
            "Gradient norms, before clipping": "train/.*gradient_norm",
        }.items()
    ]


def _roc(title: str, table: str) -> Panel:
    fields = {"x": "fpr", "y": "tpr", "class": "class"}
    return _chart("wandb/area-under-curve/v0", table, fields, title)


def _confusion(title: str, table: str) -> Panel:
    names = ("Actual", "Predicted", "nPredictions")
    return _chart("wandb/confusion_matrix/v1", table, {name: name for name in names}, title)


def _chart(preset: str, table: str, fields: dict[str, str], title: str) -> Panel:
    chart = wr.CustomChart.from_table(table, fields, {"title": title})
    chart.chart_name = preset
    return chart


def main(words: Sequence[str] | None = None) -> None:
    """Save the workspace as a new view of the project, or print it as W&B's server would get it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="psegan")
    parser.add_argument("--print", action="store_true", help="print it as JSON, without an account or a server")
    arguments = parser.parse_args(words)
    made = workspace(arguments.entity, arguments.project)
    if arguments.print:
        spec = made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
        print(json.dumps(json.loads(spec), indent=2))
    else:
        made.save_as_new_view()


if __name__ == "__main__":
    main()
