"""Sweep files: what W&B's own agent would run is what psegan sweep runs."""

from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from psegan.common.errors import PseganError
from psegan.jobs.job import Job
from psegan.jobs.sweep_file import Sweep
from psegan.training.identity import name_of, variant_of

SWEEPS = sorted((Path(__file__).resolve().parents[3] / "experiments" / "sweeps").glob("*.yaml"))
SWEEPS = [path for path in SWEEPS if "method" in yaml.safe_load(path.read_text())]


def settings(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Overlays, and the settings after them; in both commands no overlay may follow a setting, which it could undo."""
    text = " ".join(words).replace("--config ", "--config=").split()
    pairs = [word.removeprefix("--").partition("=")[::2] for word in text]
    configs = [value for key, value in pairs if key == "config"]
    assert [key for key, _ in pairs[: len(configs)]] == ["config"] * len(configs)
    return configs, dict(pairs[len(configs) :])


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_trials_are_those_of_the_wandb_agent(path):
    """The agent fills parameters into the command; wandb's own functions say how."""
    config = load_sweep_config(str(path))
    trials = Sweep.read(str(path)).trials()
    size = 1
    for parameter in config["parameters"].values():
        size *= len(parameter["values"])
    assert len(trials) == len({trial.name for trial in trials}) == size
    for trial in trials:
        chosen = {"config": trial.configs[-1], **{k: v for k, v in trial.values.items() if k in config["parameters"]}}
        arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
        command = create_sweep_command(list(config["command"]))
        place = command.index("${args}")
        words = [*command[:place], *arguments["args"], *command[place + 1 :]]
        assert words[:2] == ["psegan", "fit"]
        job = Job(trial.name, Path("run"), trial.configs, trial.values)
        configs, values = settings(job.words()[1:])
        assert {values.pop("run.dir"), values.pop("ckpt_path")} == {"run", "auto"}
        assert (configs, values) == settings(words[2:])


def test_systems_have_their_names():
    by_name = {path.stem: Sweep.read(str(path)) for path in SWEEPS}
    systems = ["psegan", "gengan", "pcmelgan", "neutral", "psegan-no-sm", "psegan-no-grn"]
    assert [trial.system for trial in by_name["systems"].trials()] == systems
    assert [trial.name for trial in by_name["systems"].trials()] == [f"{system}-seed-0" for system in systems]
    ablations = by_name["ablations"].trials()
    assert [trial.name for trial in ablations[:2]] == ["psegan-seed-0", "psegan-seed-1"]
    assert {trial.system for trial in ablations} == {
        "psegan", "psegan-no-sm", "psegan-no-grn", "psegan-no-sm-no-grn", "psegan-speaker-of-utterance", "psegan-no-noise",
        "psegan-fixed-target",
    }  # fmt: skip
    assert {trial.seed for trial in ablations} == {0, 1}


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ("experiments/gengan.yaml", "gengan"), ("experiments/psegan.yaml", "psegan"),
        ("experiments/ablations/no_sm.yaml", "psegan-no-sm"), ("elsewhere/my_own.yaml", "my-own"),
    ],
)  # fmt: skip
def test_a_trial_is_called_as_a_training_of_its_overlays(overlay, expected):
    before = ["experiments/psegan.yaml", "experiments/corpora/ravdess.yaml"]
    assert name_of(overlay, before) == expected
    assert variant_of([*before, overlay]) in (expected, "psegan"), "a training knows of no sweep"


COMMAND = ["psegan", "fit", "--config=a.yaml", "${args}", "--trainer.max_epochs", "3"]
GRID = {"method": "grid", "command": COMMAND, "parameters": {"model.init_args.x": {"values": [1, 2.5]}}}
RANDOM = {
    "method": "random", "command": COMMAND, "run_cap": 40,
    "parameters": {
        "a": {"min": 1, "max": 3}, "b": {"min": 0.5, "max": 1.0}, "c": {"values": ["x", "y"]}, "d": {"value": True},
        "e": {"min": "1e-5", "max": 1.0e-1, "distribution": "log_uniform_values"},
    },
}  # fmt: skip


def read(content: dict, tmp_path) -> Sweep:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    return Sweep.read(str(path))


def test_a_grid(tmp_path):
    trials = read(GRID, tmp_path).trials()
    assert [trial.name for trial in trials] == ["x-1", "x-2.5"]
    assert trials[1].configs == ("a.yaml",)
    assert trials[1].values == {"trainer.max_epochs": "3", "model.init_args.x": 2.5}


def test_a_grid_is_capped_as_by_the_server_and_names_stay(tmp_path):
    sweep = read({**GRID, "run_cap": 1}, tmp_path)
    assert [trial.name for trial in sweep.trials()] == ["x-1"]
    longer = read({**RANDOM, "run_cap": 41}, tmp_path)
    assert longer.trials()[:40] == read(RANDOM, tmp_path).trials()


def test_random_draws_stay_in_range_and_come_again(tmp_path):
    sweep = read(RANDOM, tmp_path)
    trials = sweep.trials(seed=3)
    assert len(trials) == len({trial.name for trial in trials}) == 40
    assert {trial.values["a"] for trial in trials} == {1, 2, 3}
    assert {trial.values["c"] for trial in trials} == {"x", "y"}
    assert all(0.5 <= trial.values["b"] <= 1 and trial.values["d"] is True for trial in trials)
    logs = sorted(trial.values["e"] for trial in trials)
    assert 1e-5 <= logs[0] < 1e-3 < logs[20] < 1e-1
    assert sweep.trials(seed=3) == trials != sweep.trials(seed=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "bayes"}, "method is 'bayes'; psegan sweep knows grid and random"),
        ({"methd": "grid"}, "unknown key 'methd'"),
        ({"parameters": {}}, "no parameters, so there is nothing to sweep over"),
        ({"parameters": {"x": {"values": []}}}, "parameters.x.values is empty"),
        ({"parameters": {"x": 3}}, "parameters.x is 3, but must be a mapping"),
        ({"parameters": {"x": {"parameters": {"y": {"value": 1}}}}}, "one flat dotted key"),
        ({"parameters": {"x": {"min": 0, "max": 1}}}, "a grid needs 'values'"),
        ({"parameters": {"x": {"values": [1], "probabilities": [1]}}}, "remove probabilities"),
        ({"method": "random"}, "a random sweep needs run_cap"),
        ({"metric": "val/x"}, "metric is 'val/x', but must be"),
        ({"name": "a b"}, "name is 'a b'; a folder is called by it"),
        ({"command": 5}, "command must be"),
        ({"parameters": {"seed_everything": {"values": ["a"]}}}, "seed_everything is 'a', but seeds are whole numbers"),
        ({"parameters": {"seed_everything": {"value": True}}}, "seed_everything is True"),
        ({"command": [*COMMAND, "--seed_everything=x"]}, "seed_everything is 'x'"),
        (
            {"method": "random", "run_cap": 2, "parameters": {"seed_everything": {"min": 0.5, "max": 9.5}}},
            r"seed_everything is \d\.\d+, but",
        ),
        ({"parameters": {"trainer.max_epochs": {"values": [1]}}}, "is a setting of the command and a parameter"),
        (
            {"parameters": {"config": {"values": ["b.yaml"]}}, "command": ["psegan", "fit", "--x=1", "${args}"]},
            "--x must come after",
        ),
        ({"command": ["psegan", "fit", "${args}", "--config=a.yaml"]}, "--config=a.yaml must come before"),
        ({"method": "random", "run_cap": 2, "parameters": {"x": {"min": "a", "max": 1}}}, "must be numbers"),
        ({"method": "random", "run_cap": 2, "parameters": {"x": {"min": 2, "max": 1}}}, "min 2 and max 1 are no range"),
        (
            {"method": "random", "run_cap": 2, "parameters": {"x": {"min": 0, "max": 1, "distribution": "beta"}}},
            "'beta'",
        ),
        ({"command": ["python", "train.py"]}, r"command must be \[psegan, fit"),
        ({"command": ["psegan", "fit", "x", "${args}"]}, "'x' is no option"),
    ],
)
def test_errors_name_the_key(change, message, tmp_path):
    with pytest.raises(PseganError, match=message) as caught:
        read({**GRID, **change}, tmp_path).trials()
    assert "\n" not in str(caught.value)
