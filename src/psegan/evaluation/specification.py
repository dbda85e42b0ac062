"""What an evaluation file says: corpus, systems, attackers, classifiers."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from psegan.common.errors import PseganError
from psegan.common.files import read_yaml
from psegan.common.settings import parse_settings
from psegan.evaluation.judges import DEFAULT_JUDGES
from psegan.evaluation.utility import LEVEL
from psegan.protection.controls import is_trained, spelt_out
from psegan.report.tables import ATTACKERS, CUT, REPETITION, SHUFFLED

KNOWN_ATTACKERS = tuple(reversed(ATTACKERS))
"""The attackers on emotion, from the one who knows least."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TAKEN = re.compile(r"-(pass|fold)-\d+$")
SENTENCES = ("other", "any")
"""Which recordings make a profile, by what they say."""
KEPT = ("speaker", "gender", "content")
"""Attributes that are to survive."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a network is trained.

    Attributes:
        config: overlays of ``psegan fit``, without a corpus.
        set: dotted key → value, laid over them.
    """

    config: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Architecture(Trained):
    """One kind of attacker.

    Attributes:
        estimator: import path of a classical attacker (:mod:`psegan.evaluation.functionals`), which has no ``config``.
        seeds: one attacker each.
        continued: dotted key → value, laid over ``set`` where training starts from the attacker of original speech.
    """

    estimator: str | None = None
    continued: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True, kw_only=True)
class Verification(Trained):
    """How speakers are verified: by a network of its own that is trained here, or by a ready one.

    Attributes:
        backend, init_args: import path and arguments of a ready :class:`psegan.evaluation.verifiers.Verifier`, which
            has no ``config``.
    """

    backend: str | None = None
    init_args: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.backend is not None or bool(self.config)


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Which recordings of a speaker make the voice profile that one of the speaker's utterances is protected with.

    Attributes:
        calm: emotions, of which the profile is made; such recordings are in no trial of voices.
        sentences: ``other`` leaves out recordings that say what the utterance says, ``any`` the utterance alone.
        seconds: of recordings, after which none is added.
    """

    calm: list[str] = field(default_factory=lambda: ["neutral"])
    sentences: str = "other"
    seconds: float = 60.0

    def check(self, refuse: Callable[[str], NoReturn]) -> None:
        """Call ``refuse`` with what is wrong, if anything is."""
        if not self.calm:
            refuse("enrolment.calm is empty, but must name at least one emotion")
        if self.sentences not in SENTENCES:
            refuse(f"enrolment.sentences is {self.sentences!r}, but must be {' or '.join(SENTENCES)}")
        if not self.seconds > 0:
            refuse(f"enrolment.seconds is {self.seconds:g}, but must be more than 0")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation file.

    Attributes:
        name: of the evaluation; the W&B group of its trainings.
        out: folder of everything it makes.
        corpus: overlay with ``data``, as for ``psegan fit``.
        data: laid over the corpus's ``init_args``, as ``{split: speaker-disjoint}``.
        folds: of the split; scores are pooled over them.
        systems: name → protector: ``class_path`` and ``init_args`` (:mod:`psegan.protection.controls`), or a trained system's
            checkpoint, where ``{fold}`` stands for the fold. ``original`` and ``copy-synthesis`` are always there.
        ablations: name → the system that it is without a part; names that are no systems of this evaluation do no harm.
        repetitions: name → the systems that are trainings of it with several seeds. Its scores are their means, and its
            intervals speak of other trainings as well as of other speakers, but not of what its trainings share, such as the
            network that they begin with; tables show it in their place. Names that are no
            systems of this evaluation do no harm; fewer than two systems are no repetitions.
        vocoder: of copy-synthesis and of the trained systems: a name or a class, see :func:`psegan.weights.load_vocoder`.
        architectures: of attackers on emotion; the first one is that of ``ignorant``, ``vocoder-aware`` and ``informed``,
            and ``strongest`` is the mean of all.
        attackers: which to build, of :data:`KNOWN_ATTACKERS`; ``[]`` for none, where judges alone listen, as to a corpus that
            knows no emotions.
        classifiers: attribute to survive → how its classifier of original speech is trained.
        verifier: what verifies speakers; an empty one leaves verification out.
        enrolment: of speakers, for systems that speak with voice profiles.
        judges: name → class of a judge and its arguments (:mod:`psegan.evaluation.judges`); ``{}`` for none.
        set: dotted key → value; reading a file puts it into the ``set`` of every training, before its own.
        epochs: factor of the epochs of all trainings: more than 1 for a split with less speech, whose epochs have fewer steps.
        passes: how often training speech is protected for an attacker, each time with fresh targets and noise.
        permutations: how many attackers learn from shuffled labels, each from a permutation of its own.
        permutation_architecture: of those; by default the first. One that is fitted in seconds can check many permutations.
        resamples: of the bootstrap.
        n_clips: utterances that the page plays.
        seed: of the protectors' draws and of shuffled labels.
    """

    name: str
    out: str
    corpus: str
    data: dict[str, Any] = field(default_factory=dict)
    folds: list[int] = field(default_factory=lambda: [0])
    systems: dict[str, dict[str, Any] | str] = field(default_factory=dict)
    ablations: dict[str, str] = field(default_factory=dict)
    repetitions: dict[str, list[str]] = field(default_factory=dict)
    vocoder: str | dict[str, Any] = field(default_factory=lambda: {"class_path": "psegan.models.vocoder.GriffinLim"})
    architectures: dict[str, Architecture] = field(default_factory=dict)
    attackers: list[str] = field(default_factory=lambda: list(KNOWN_ATTACKERS))
    classifiers: dict[str, Trained] = field(default_factory=dict)
    verifier: Verification = field(default_factory=Verification)
    enrolment: Enrolment = field(default_factory=Enrolment)
    judges: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(DEFAULT_JUDGES))
    set: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    passes: int = 1
    permutations: int = 4
    permutation_architecture: str = ""
    resamples: int = 10_000
    n_clips: int = 3
    seed: int = 0

    @property
    def roles(self) -> dict[str, str]:
        """System → ``control`` where it learnt from no speech, ``ablation of NAME``, ``repetition of NAME``, or ``system``."""
        roles = {name: "system" if is_trained(system) else "control" for name, system in self.systems.items()}
        roles |= dict.fromkeys(self.repetitions, "system")
        roles |= {name: f"ablation of {whole}" for name, whole in self.ablations.items() if name in roles}
        return roles | {one: f"{REPETITION}{name}" for name, several in self.repetitions.items() for one in several}

    @classmethod
    def read(cls, path: str, systems: dict[str, str] | None = None, attackers: list[str] | None = None) -> "Evaluation":
        """Read an evaluation file; ``systems`` are added to the file's, and ``attackers`` replace its own.

        Raises:
            PseganError: the file is missing, is not YAML, or has unknown, missing or mistyped keys.
        """
        content = read_yaml(path)
        return cls.parse(content if attackers is None else {**content, "attackers": attackers}, path, systems)

    @classmethod
    def parse(cls, content: dict[str, Any], where: str, systems: dict[str, str] | None = None) -> "Evaluation":
        """See :meth:`read`; ``where`` names the content in messages."""
        read = parse_settings(cls, content, where)
        every = {**read.systems, **(systems or {})}
        read._check(where, every)
        return replace(
            read,
            systems=_with_controls(read, every),
            repetitions={
                name: here for name, members in read.repetitions.items() if len(here := _here(members, every)) > 1
            },
            architectures={name: replace(one, set=read.set | one.set) for name, one in read.architectures.items()},
            attackers=sorted(set(read.attackers), key=KNOWN_ATTACKERS.index),
            classifiers={name: replace(one, set=read.set | one.set) for name, one in read.classifiers.items()},
            verifier=replace(read.verifier, set=read.set | read.verifier.set),
            permutation_architecture=read.permutation_architecture or next(iter(read.architectures), ""),
        )

    def _check(self, where: str, systems: Iterable[str]) -> None:
        def refuse(problem: str) -> NoReturn:
            raise PseganError(f"{where}: {problem}")

        for key, names, known in (
            ("attackers", self.attackers, KNOWN_ATTACKERS), ("classifiers", self.classifiers, KEPT)
        ):  # fmt: skip
            if unknown := [name for name in names if name not in known]:
                refuse(f"{key} holds {unknown[0]!r}; there are {', '.join(known)}")
        if not self.folds or not (self.attackers or self.judges):
            refuse("an evaluation needs at least one fold, and an attacker or a judge")
        if CUT in self.attackers and not {"informed", "strongest"} & {*self.attackers}:
            refuse(f"attackers holds {CUT}, which learns from what informed does; add that, or strongest")
        if self.attackers and not self.architectures:
            refuse("attackers need at least one of architectures")
        for key in ("passes", "permutations", "resamples", "n_clips"):
            if getattr(self, key) < 1:
                refuse(f"{key} is {getattr(self, key)}, but must be at least 1")
        self.enrolment.check(refuse)
        if not self.epochs > 0:
            refuse(f"epochs is {self.epochs}, but must be a factor above 0")
        for name in (self.name, *systems, *self.repetitions, *self.architectures, *self.judges):
            if not _NAME.fullmatch(name) or _TAKEN.search(name):
                refuse(
                    f"{name!r} cannot be a name, since folders are called by it: use letters, digits, '_', '-' and '.', "
                    "begin with a letter or digit, and don't end as -pass-1 or -fold-1 do"
                )
        if CUT in self.architectures:
            refuse(f"an architecture cannot be called {CUT}: that is who hears what a protector lets through")
        seeds = {f"architectures.{name}.seeds": one.seeds for name, one in self.architectures.items()}
        for key, numbers in {"folds": self.folds, **seeds}.items():
            if len(set(numbers)) < len(numbers) or min(numbers, default=0) < 0:
                refuse(f"{key} is {numbers}, but must hold different numbers from 0 on")
        for name, one in self.architectures.items():
            if (one.estimator is None) == (not one.config) or not one.seeds:
                refuse(f"architectures.{name} needs seeds and either 'config' or 'estimator'")
        several = [one for members in self.repetitions.values() for one in members]
        for name, members in self.repetitions.items():
            if name in (*systems, "original", "copy-synthesis"):
                refuse(f"repetitions.{name} must have a name of its own, for there is a system called that")
            if twice := [one for one in members if several.count(one) > 1]:
                refuse(f"repetitions.{name} holds {twice[0]!r}, which is named twice")
        if (chosen := self.permutation_architecture) not in ("", *self.architectures):
            refuse(
                f"permutation_architecture is {chosen!r}, but is one of architectures: {', '.join(self.architectures)}"
            )
        if both := sorted({LEVEL, *KEPT, *KNOWN_ATTACKERS} & set(self.judges)):
            refuse(f"a judge cannot be called {both[0]}: that is the name of something else in the tables")
        if self.verifier.backend is not None and self.verifier.config:
            refuse("verifier needs either 'config' or 'backend', not both")


def _here(members: Iterable[str], systems: Mapping[str, Any]) -> list[str]:
    return [name for name in members if name in systems]


def of_fold(spec: Any, fold: int | None) -> Any:
    """A protector's specification with ``{fold}`` filled in."""
    if isinstance(spec, dict):
        return {key: of_fold(value, fold) for key, value in spec.items()}
    return spec.replace("{fold}", str(fold)) if isinstance(spec, str) else spec


def _with_controls(evaluation: Evaluation, more: Mapping[str, dict[str, Any] | str]) -> dict[str, dict[str, Any] | str]:
    through = {"vocoder": evaluation.vocoder}  # copy-synthesis is the control of trained systems: one vocoder for all
    systems: dict[str, dict[str, Any] | str] = {
        "original": {"class_path": "psegan.protection.controls.Identity"},
        "copy-synthesis": {"class_path": "psegan.protection.controls.CopySynthesis", "init_args": through},
    }
    for name, system in more.items():
        if name in ("original", "copy-synthesis", SHUFFLED, *KNOWN_ATTACKERS):
            raise PseganError(f"a system cannot be called {name}: that is the name of a control or an attacker")
        system = spelt_out(system)
        if is_trained(system):
            system = {**system, "init_args": {**through, **(system.get("init_args") or {})}}
        systems[name] = system
    return systems
