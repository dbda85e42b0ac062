"""The trials of docs/results/trials.csv as tuning.md's table (``make tables``) and as a frontier: ``python docs/trials.py``."""

from pathlib import Path

import pandas as pd

from psegan.plots import Point, frontier_figure, save_figure

TRIALS = Path(__file__).parent / "results" / "trials.csv"
KEPT = {
    "WER": "words: Moonshine, WER (%)",
    "EER": "voice: Resemblyzer, EER (%)",
    "DNSMOS": "quality: DNSMOS",
}


def table() -> None:
    """Print the trials as a table of Markdown."""
    print(pd.read_csv(TRIALS, dtype=str).fillna("").to_markdown(index=False, tablefmt="pipe", disable_numparse=True))


def frontier() -> None:
    """Write the figure of what is hidden against what survives, beside the table; a trial's score has no interval."""

    def point(score: float) -> Point:
        return score, float("nan"), float("nan")

    trials = pd.read_csv(TRIALS)
    names = trials["trial"].where(trials["trial"] != "original", "original, " + trials["vocoder"])
    panels = {
        name: {
            trial: (point(x), point(y)) for trial, x, y in zip(names, trials["emotion"], trials[column], strict=True)
        }
        for column, name in KEPT.items()
    }
    title = "PSEGAN's trials on RAVDESS's validation set: emotion that is found against what is kept"
    save_figure(
        frontier_figure(panels, "emotion: watching classifier, accuracy (%)", title), TRIALS.with_suffix(".png")
    )


if __name__ == "__main__":
    frontier()
