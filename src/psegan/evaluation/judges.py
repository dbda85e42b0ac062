"""Judges of utility: public models that nobody here trained, who hear a recording and say what they make of it.

The kinds are :class:`~psegan.evaluation.recognisers.Recogniser` (words), :class:`~psegan.evaluation.verifiers.Verifier`
(voices) and :class:`~psegan.evaluation.naturalness.QualityJudge`. A network of a judge takes part in no training, but for one
that teaches (:mod:`psegan.models.moonshine`): what it taught says so (``learnt_from``) and is judged by the others.
docs/evaluation.md says who made each judge, on what, and what it cannot see.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from psegan.common.errors import PseganError, printable
from psegan.common.instantiate import instantiate
from psegan.common.packages import NotInstalledError


class Judge(ABC):
    """Hears one recording at a time. Its network is loaded when it is first needed."""

    @property
    def network(self) -> Any:
        """What hears, loaded when it is first asked for; None of a judge that needs no network."""
        return None

    def load(self) -> None:
        """Load the network now, so that what is missing is known before hours of work."""
        _ = self.network

    @abstractmethod
    def judge(self, waveform: Tensor, language: str | None = None) -> Any:
        """What the judge says of a recording, as plain values that JSON knows.

        It depends on no other recording, so that results can be kept.

        Args:
            waveform: samples ``(T,)`` at 16 kHz in [-1, 1].
            language: that is spoken, as an ISO 639-1 code; None where it is unknown.
        """

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """Kind, network, source and version or hash of the weights, for the header of results.json."""

    def knows(self, language: str | None) -> bool:
        """Whether the judge can be asked about speech in a language, which may be unknown."""
        return True


DEFAULT_JUDGES: dict[str, dict[str, Any]] = {
    "moonshine": {"class_path": "psegan.evaluation.recognisers.Moonshine"},
    "pocketsphinx": {"class_path": "psegan.evaluation.recognisers.PocketSphinx"},
    "resemblyzer": {"class_path": "psegan.evaluation.verifiers.Resemblyzer"},
    "dnsmos": {"class_path": "psegan.evaluation.naturalness.DNSMOS"},
}
"""Of every evaluation that names no others; their packages have the weights inside."""


def make_judge(name: str, spec: Mapping[str, Any]) -> Judge:
    """The judge that a specification describes.

    Raises:
        NotInstalledError: its package is missing.
        PseganError: no such class, or arguments that it does not take.
    """
    from psegan.evaluation import naturalness, recognisers, verifiers

    path = str(spec.get("class_path"))
    if "." not in path:  # one of ours
        homes = (recognisers, verifiers, naturalness)
        home = next((one.__name__ for one in homes if hasattr(one, path)), verifiers.__name__)
        spec = {**spec, "class_path": f"{home}.{path}"}
    return instantiate(Judge, dict(spec), f"judges.{name}")  # type: ignore[type-abstract]


def make_judges(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Judge]:
    """Name → judge of all that are installed and can be loaded; see :func:`tell` for the others, whose columns stay empty.

    Raises:
        PseganError: as :func:`make_judge`, but for packages that are missing.
    """
    made: dict[str, Judge] = {}
    missing: dict[str, str] = {}
    for name, spec in specs.items():
        try:
            judge = make_judge(name, spec)
        except NotInstalledError as error:
            missing[name] = str(error)
            continue
        try:
            judge.load()
        except Exception as error:  # of anybody's package, or of what that needs
            missing[name] = str(error) if isinstance(error, PseganError) else f"{type(error).__name__}: {error}"
        else:
            made[name] = judge
    tell(missing)
    return made


def tell(reasons: Mapping[str, str]) -> None:
    """Say in a line on stderr who does not judge, and why: name → reason."""
    if reasons:
        why = "; ".join(dict.fromkeys(reasons.values()))
        print(f"psegan: warning: no scores by {', '.join(reasons)} ({printable(why)})", file=sys.stderr, flush=True)
