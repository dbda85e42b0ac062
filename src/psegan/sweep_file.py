"""A W&B sweep file, read as W&B's own agent reads it, and the trials that it stands for."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psegan.errors import PseganError
from psegan.files import read_yaml
from psegan.random import seeded

ARGS = "${args}"
_IGNORED = ("program", "project", "entity", "description", "controller", "early_terminate")
_KNOWN = ("name", "method", "metric", "command", "parameters", "run_cap", *_IGNORED)
_DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values")


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        name: unique in the sweep; also its folder, and the system's name in tables.
        system: the name without its seed.
        seed: ``seed_everything``, or 0.
        configs: overlays, in order.
        values: dotted key → value.
    """

    name: str
    system: str
    seed: int
    configs: tuple[str, ...]
    values: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        name: of the sweep; the W&B group of its trials.
        method: ``grid`` or ``random``.
        metric: what trials are listed by, and whether ``minimize`` or ``maximize`` is better; empty for none.
        configs, values: of the command, for all trials.
        parameters: name → ``{"value": ...}``, ``{"values": [...]}`` or ``{"min": ..., "max": ..., "distribution": ...}``.
        run_cap: number of random trials.
    """

    name: str
    method: str
    metric: tuple[str, str] | None
    configs: tuple[str, ...]
    values: dict[str, Any]
    parameters: dict[str, dict[str, Any]]
    run_cap: int | None

    @classmethod
    def read(cls, path: str) -> "Sweep":
        """Read a sweep file.

        Raises:
            PseganError: the file is missing, is no sweep, or asks for what only W&B's server can do.
        """
        content = read_yaml(path)
        for key in content:
            if key not in _KNOWN:
                raise PseganError(f"{path}: unknown key {key!r}; a sweep has {', '.join(_KNOWN)}")
        method = content.get("method")
        if method not in ("grid", "random"):
            raise PseganError(
                f"{path}: method is {method!r}; psegan sweep knows grid and random, wandb agent the others"
            )
        parameters = content.get("parameters")
        if not isinstance(parameters, dict) or not parameters:
            raise PseganError(f"{path}: has no parameters, so there is nothing to sweep over")
        for name, one in parameters.items():
            _check_parameter(f"{path}: parameters.{name}", one, method)
        run_cap = content.get("run_cap")
        if method == "random" and not (isinstance(run_cap, int) and run_cap > 0):
            raise PseganError(f"{path}: a random sweep needs run_cap, the number of its trials")
        metric = content.get("metric")
        named = None if metric is None else (str(metric.get("name")), str(metric.get("goal", "minimize")))
        configs, values = _parse_command(path, content.get("command"))
        return cls(str(content.get("name") or Path(path).stem), method, named, configs, values, parameters, run_cap)

    def trials(self, seed: int = 0) -> list[Trial]:
        """All trials, in the order of the file.

        Args:
            seed: of a random sweep's draws.
        """
        points = list(self._grid() if self.method == "grid" else self._random(seed))
        varied = [
            name for name, one in self.parameters.items() if self.method == "random" or len(one.get("values", [])) > 1
        ]
        trials = [self._trial(point, varied) for point in points]
        counts = Counter(trial.name for trial in trials)
        if self.method == "random" or max(counts.values()) > 1:
            digits = len(str(len(trials)))
            numbered = (f"{trial.system}-{i:0{digits}}" for i, trial in enumerate(trials, 1))
            return [Trial(name, name, t.seed, t.configs, t.values) for name, t in zip(numbered, trials, strict=True)]
        return trials

    def _grid(self) -> Iterator[dict[str, Any]]:
        choices = [one.get("values", [one.get("value")]) for one in self.parameters.values()]
        for chosen in itertools.product(*choices):
            yield dict(zip(self.parameters, chosen, strict=True))

    def _random(self, seed: int) -> Iterator[dict[str, Any]]:
        import torch

        for number in range(self.run_cap or 0):
            random = seeded(seed, "sweep", self.name, number)
            draws = torch.rand(len(self.parameters), generator=random, dtype=torch.float64).tolist()
            yield {name: _drawn(one, u) for (name, one), u in zip(self.parameters.items(), draws, strict=True)}

    def _trial(self, point: dict[str, Any], varied: list[str]) -> Trial:
        values, configs = {**self.values, **point}, self.configs
        overlay = values.pop("config", None)
        words = []
        if overlay is not None:
            configs = (*configs, str(overlay))
            words.append(self._spoken(Path(str(overlay))))
        words += [
            f"{name.rpartition('.')[2]}-{_clean(value)}"
            for name, value in point.items()
            if name in varied and name not in ("config", "seed_everything")
        ]
        system = "-".join(words) or self.name
        seed = int(values.get("seed_everything", 0))
        several = "seed_everything" in varied
        return Trial(f"{system}-seed-{seed}" if several else system, system, seed, configs, values)

    def _spoken(self, overlay: Path) -> str:
        """An overlay's name as a system's: an ablation is one of the system that the command begins with."""
        stem = overlay.stem.replace("_", "-")
        return f"{Path(self.configs[0]).stem}-{stem}" if overlay.parent.name == "ablations" and self.configs else stem


def _clean(value: Any) -> str:
    return re.sub(r"[^\w.-]+", "-", str(value)).strip("-")


def _check_parameter(where: str, one: Any, method: str) -> None:
    if not isinstance(one, dict):
        raise PseganError(f"{where} is {one!r}, but must be a mapping with 'value', 'values' or 'min' and 'max'")
    if "value" in one:
        return
    if "values" in one:
        if not isinstance(one["values"], list) or not one["values"]:
            raise PseganError(f"{where}.values is empty, so the sweep has no trial; list at least one value")
        if "probabilities" in one:
            raise PseganError(f"{where}: psegan sweep draws all values alike; remove probabilities, or use wandb agent")
        return
    if "min" not in one or "max" not in one:
        raise PseganError(f"{where}: needs 'value', 'values' or 'min' and 'max', under one flat dotted key")
    if method == "grid":
        raise PseganError(f"{where}: a grid needs 'values'; a range is for method: random")
    if one.get("distribution", "uniform") not in _DISTRIBUTIONS:
        raise PseganError(f"{where}.distribution is {one['distribution']!r}; there are {', '.join(_DISTRIBUTIONS)}")
    if not one["min"] <= one["max"] or (one.get("distribution") == "log_uniform_values" and one["min"] <= 0):
        raise PseganError(f"{where}: min {one['min']} and max {one['max']} are no range")


def _drawn(one: dict[str, Any], u: float) -> Any:
    """A parameter's value at ``u`` in [0, 1)."""
    if "value" in one:
        return one["value"]
    if "values" in one:
        return one["values"][int(u * len(one["values"]))]
    low, high = one["min"], one["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = one.get("distribution", "int_uniform" if whole else "uniform")
    if distribution == "int_uniform":
        return low + int(u * (high - low + 1))
    if distribution == "log_uniform_values":
        return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    return low + u * (high - low)


def _parse_command(path: str, command: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The overlays and settings of ``[psegan, fit, ..., ${args}]``."""
    words = [str(word) for word in command or [] if word != "${env}"]
    if words[:2] != ["psegan", "fit"] or ARGS not in words:
        raise PseganError(f"{path}: command must be [psegan, fit, ..., {ARGS}], so that every trial is a psegan fit")
    configs, values = [], {}
    rest = iter(word for word in words[2:] if word != ARGS)
    for word in rest:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "$" in word:
            raise PseganError(f"{path}: the command's {word!r} is no option; write --key=value, and {ARGS} once")
        if not equals:
            value = next(rest, "")
        if key == "config":
            configs.append(value)
        else:
            values[key] = value
    return tuple(configs), values
