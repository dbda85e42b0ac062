"""A W&B sweep file, read as W&B's own agent reads it, and the trials that it stands for."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.training.identity import name_of

ARGS = "${args}"
_KEYS = (
    "name", "method", "metric", "command", "parameters", "run_cap",
    "program", "project", "entity", "description", "controller", "early_terminate",  # these are for the server
)  # fmt: skip
_DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values")


@dataclass(frozen=True)
class Trial:
    """One training of a sweep: overlays in order, and dotted key → value over them.

    Attributes:
        name: unique in the sweep; also its folder.
        system: the name without its seed; also in tables.
        seed: ``seed_everything``, or 0.
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
        name: the W&B group of its trials.
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
            if key not in _KEYS:
                raise PseganError(f"{path}: unknown key {key!r}; a sweep has {', '.join(_KEYS)}")
        method = content.get("method")
        if method not in ("grid", "random"):
            raise PseganError(f"{path}: method is {method!r}; psegan sweep knows grid and random, wandb agent more")
        found = content.get("parameters")
        if not isinstance(found, dict) or not found:
            raise PseganError(f"{path}: has no parameters, so there is nothing to sweep over")
        parameters = {name: _checked(f"{path}: parameters.{name}", one, method) for name, one in found.items()}
        run_cap = content.get("run_cap")
        if (method == "random" or run_cap is not None) and not (isinstance(run_cap, int) and run_cap > 0):
            raise PseganError(f"{path}: a random sweep needs run_cap, the number of its trials, which is 1 or more")
        metric = content.get("metric")
        if metric is not None and not (isinstance(metric, dict) and isinstance(metric.get("name"), str)):
            raise PseganError(f"{path}: metric is {metric!r}, but must be {{name: ..., goal: minimize or maximize}}")
        named = None if metric is None else (metric["name"], str(metric.get("goal", "minimize")))
        configs, values = _parse_command(path, content.get("command"), "config" in parameters)
        if both := sorted(values.keys() & parameters.keys()):
            raise PseganError(f"{path}: {both[0]} is a setting of the command and a parameter; keep one of them")
        name = str(content.get("name") or Path(path).stem)
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise PseganError(f"{path}: name is {name!r}; a folder is called by it: use letters, digits and _-.")
        return cls(name, method, named, configs, values, parameters, run_cap)

    def trials(self, seed: int = 0) -> list[Trial]:
        """All trials, in the order of the file; ``seed`` is of a random sweep's draws.

        Raises:
            PseganError: a trial's ``seed_everything`` is no whole number.
        """
        points = itertools.islice(self._grid(), self.run_cap) if self.method == "grid" else self._random(seed)
        trials = [self._trial(point) for point in points]
        counts = Counter(trial.name for trial in trials)
        if self.method == "random" or max(counts.values()) > 1:  # names that stay when trials are added
            numbered = (f"{self.name}-{i}" for i in range(1, len(trials) + 1))
            return [replace(trial, name=name, system=name) for name, trial in zip(numbered, trials, strict=True)]
        return trials

    def _grid(self) -> Iterator[dict[str, Any]]:
        choices = [one.get("values", [one.get("value")]) for one in self.parameters.values()]
        for chosen in itertools.product(*choices):
            yield dict(zip(self.parameters, chosen, strict=True))

    def _random(self, seed: int) -> Iterator[dict[str, Any]]:
        import torch  # heavy, and only drawing needs it

        from psegan.common.random import seeded

        for number in range(self.run_cap or 0):
            random = seeded(seed, "sweep", self.name, number)
            draws = torch.rand(len(self.parameters), generator=random, dtype=torch.float64).tolist()
            yield {name: _drawn(one, u) for (name, one), u in zip(self.parameters.items(), draws, strict=True)}

    def _trial(self, point: dict[str, Any]) -> Trial:
        values, configs = {**self.values, **point}, self.configs
        words = []
        if (overlay := values.pop("config", None)) is not None:
            words.append(name_of(str(overlay), configs))
            configs = (*configs, str(overlay))
        for name, value in point.items():
            if "values" in self.parameters[name] and name not in ("config", "seed_everything"):
                clean = re.sub(r"[^\w.-]+", "-", str(value)).strip("-")
                words.append(f"{name.rpartition('.')[2]}-{clean}")
        system = "-".join(words) or self.name
        seed = values.get("seed_everything", 0)
        if not str(seed).isdecimal():
            raise PseganError(f"sweep {self.name}: seed_everything is {seed!r}, but seeds are whole numbers from 0 on")
        several = "values" in self.parameters.get("seed_everything", {})
        return Trial(f"{system}-seed-{seed}" if several else system, system, int(seed), configs, values)


def _checked(where: str, one: Any, method: str) -> dict[str, Any]:
    """A parameter, with numbers for the ends of its range: YAML takes 1e-5 for text."""
    if not isinstance(one, dict):
        raise PseganError(f"{where} is {one!r}, but must be a mapping with 'value', 'values' or 'min' and 'max'")
    if "values" in one and not (isinstance(one["values"], list) and one["values"]):
        raise PseganError(f"{where}.values is empty, so the sweep has no trial; list at least one value")
    if "probabilities" in one:
        raise PseganError(f"{where}: psegan sweep draws all values alike; remove probabilities, or use wandb agent")
    if "value" in one or "values" in one:
        return one
    if "min" not in one or "max" not in one:
        raise PseganError(f"{where}: needs 'value', 'values' or 'min' and 'max', under one flat dotted key")
    if method == "grid":
        raise PseganError(f"{where}: a grid needs 'values'; a range is for method: random")
    if one.get("distribution", "uniform") not in _DISTRIBUTIONS:
        raise PseganError(f"{where}.distribution is {one['distribution']!r}; there are {', '.join(_DISTRIBUTIONS)}")
    try:
        ends = {key: one[key] if isinstance(one[key], int) else float(one[key]) for key in ("min", "max")}
    except (TypeError, ValueError):
        raise PseganError(f"{where}: min {one['min']!r} and max {one['max']!r} must be numbers") from None
    one = {**one, **ends}
    if not one["min"] <= one["max"] or (one.get("distribution") == "log_uniform_values" and one["min"] <= 0):
        raise PseganError(f"{where}: min {one['min']} and max {one['max']} are no range")
    return one


def _drawn(one: dict[str, Any], u: float) -> Any:
    """A parameter's value at ``u`` in [0, 1)."""
    if "value" in one or "values" in one:
        choices = [one["value"]] if "value" in one else one["values"]
        return choices[int(u * len(choices))]
    low, high = one["min"], one["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = one.get("distribution", "int_uniform" if whole else "uniform")
    if distribution == "int_uniform":
        return low + int(u * (high - low + 1))
    if distribution == "log_uniform_values":
        return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    return low + u * (high - low)


def _parse_command(path: str, command: Any, overlays: bool) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The overlays and settings of ``[psegan, fit, ..., ${args}, ...]``.

    Where ``overlays`` are swept, settings must follow them, since the last one counts.
    """
    words = [str(word) for word in command if word != "${env}"] if isinstance(command, list) else []
    if words[:2] != ["psegan", "fit"] or ARGS not in words:
        raise PseganError(f"{path}: command must be [psegan, fit, ..., {ARGS}], so that every trial is a psegan fit")
    configs, values = [], {}
    rest = iter(words[2:])
    after = False
    for word in rest:
        if word == ARGS and not after:
            after = True
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "$" in word:
            raise PseganError(f"{path}: the command's {word!r} is no option; write --key=value, and {ARGS} once")
        if not equals:
            value = next(rest, "")
        if key == "config":
            if after:
                raise PseganError(f"{path}: the command's --config={value} must come before {ARGS}")
            configs.append(value)
        elif overlays and not after:
            raise PseganError(f"{path}: the command's --{key} must come after {ARGS}, or an overlay may undo it")
        else:
            values[key] = value
    return tuple(configs), values
