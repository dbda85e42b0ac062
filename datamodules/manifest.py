"""Corpora described by a manifest, a list of recordings and labels: protected corpora, and any corpus of a user's own.

The format is documented in docs/corpora.md.
"""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TextIO

from datamodules.base import CorpusDataModule, Utterance
from datamodules.splits import APART, SUBSETS, balanced_folds
from psegan.common.errors import PseganError
from psegan.common.files import atomic_path, not_a_file
from psegan.speech.batch import ATTRIBUTES

REQUIRED = ("path", "speaker")
"""Columns that every manifest has."""
STATED = ("emotion", "gender", "content")
"""Attributes that a corpus may know of all its utterances, or of none."""
KNOWN = ("id", *REQUIRED, *STATED, "split", "text")
"""Columns with a meaning; any other is kept in an utterance's details."""
UNKNOWN = "unknown"
"""The one class of an attribute that a corpus does not state."""


@dataclass(frozen=True)
class Row:
    """One row of a manifest: the file, the number of the row's line in it, from 1, and the text of each column."""

    manifest: Path
    line: int
    cells: Mapping[str, str]

    @property
    def file(self) -> Path:
        """The recording."""
        return self.manifest.parent / self.cells["path"]

    def label(self, attribute: str) -> str:
        """Name of the class, which is :data:`UNKNOWN` where the manifest lacks the column."""
        return self.cells.get(attribute, UNKNOWN)

    def error(self, problem: str) -> PseganError:
        """An error that names the row."""
        path = self.cells.get("path", "")
        named = f" ({path})" if path and path.isprintable() else ""
        return PseganError(f"{self.manifest}, line {self.line}{named}: {problem}")


def read_manifest(path: str | Path) -> list[dict[str, str]]:
    """Read the rows of a manifest, one for each utterance, in the file's order.

    All rows have the same columns, and ``id`` is one of them. Blanks at the ends of a cell are dropped. The recordings
    themselves are not looked for.

    Args:
        path: ends in ``.csv`` (a header, then rows; commas, UTF-8) or ``.jsonl`` (an object a line, UTF-8).

    Raises:
        PseganError: the file is missing or not a manifest, lacks a column or a value, names an id or a recording twice,
            or gives a split for some rows only.
    """
    return [dict(row.cells) for row in _read_corpus([Path(path)])]


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, str | int | float | None]]) -> None:
    """Write rows atomically, in the format that :func:`read_manifest` reads.

    Args:
        path: ends in ``.csv`` or ``.jsonl``.
        rows: column → value, with any columns; a CSV file has them in the order in which they first occur. None becomes
            an empty cell.

    Raises:
        PseganError: the path has another ending.
    """
    path = Path(path)
    kind = _kind(path)
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in texts for name in row))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(texts)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in texts)


class ManifestDataModule(CorpusDataModule):
    """A corpus that one or several manifests list; docs/corpora.md describes their format.

    Split ``manifest`` is the column ``split``, which need not name all three subsets: training needs ``train`` and
    ``validation``, testing needs ``test``. Splits ``speaker-disjoint`` and ``sentence-and-speaker-disjoint`` draw folds
    of speakers by ``split_seed``. The sizes of the folds, and their numbers of each gender, differ by one speaker at most.

    Args:
        manifest: path of a manifest. Several paths make one corpus, for example original and copy-synthesised speech;
            ids then begin with the name of the manifest's folder.
        split: ``manifest``, ``speaker-disjoint`` or ``sentence-and-speaker-disjoint``.
        n_folds: of speakers, at least 3.
        classes: attribute → names of its classes in the order of their indices; by default the names that occur, sorted.
            To test a classifier on another corpus, give the names of its training corpus; the test set may then lack
            some of them.
        name: of the corpus in results; by default the name of the manifest's folder.
        language: that is spoken, as a code of ISO 639-1 such as ``de``; None where that is unknown or not one language.
        kwargs: see :class:`datamodules.base.CorpusDataModule`.

    Raises:
        PseganError: an argument is out of its range, or a manifest is missing or wrong; see docs/corpora.md.
    """

    splits = ("manifest", *APART)

    def __init__(
        self,
        manifest: list[str] | str,
        split: Literal["manifest", "speaker-disjoint", "sentence-and-speaker-disjoint"] = "manifest",
        n_folds: int = 5,
        classes: dict[str, list[str]] | None = None,
        name: str | None = None,
        language: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(split=split, **kwargs)  # type: ignore[arg-type]  # of our splits, not of the others'
        self.manifests = [Path(path) for path in ([manifest] if isinstance(manifest, str) else manifest)]
        if not self.manifests:
            raise PseganError("manifest is an empty list; name at least one file")
        rows = _read_corpus(self.manifests)
        if split == "manifest" and "split" not in rows[0].cells:
            raise PseganError(f"{self.where}: has no column split; add it, or use split 'speaker-disjoint'")
        self._rows = {row.cells["id"]: row for row in rows}
        folders = dict.fromkeys(path.absolute().parent.name for path in self.manifests)
        self.corpus = self.title = name or "+".join(folders)
        if language is not None and not re.fullmatch("[a-z]{2}", language):
            raise PseganError(f"language is {language!r}, but must be a code of ISO 639-1, such as 'de', or null")
        self.language = language
        self._named = classes or {}
        if unknown := set(self._named) - set(ATTRIBUTES):
            raise PseganError(f"classes has the key {min(unknown)!r}: one of {', '.join(ATTRIBUTES)}")
        self.emotions, self.speakers, self.genders, self.contents = map(self._find_classes, ATTRIBUTES)
        self._indices = {key: {name: i for i, name in enumerate(names)} for key, names in self.classes.items()}
        self._gender_of = _genders(rows)
        if self.apart and not 3 <= n_folds <= len(self._gender_of):
            raise PseganError(
                f"n_folds is {n_folds}, but must lie between 3 and the number of speakers "
                f"({len(self._gender_of)} in {self.where})"
            )
        self._folds_wanted = n_folds

    @property
    def where(self) -> str:
        return ", ".join(map(str, self.manifests))

    @property
    def shares_speakers(self) -> bool:
        """Whether all speakers of the test set, or else of the validation set, are trained on."""
        if self.apart:
            return False
        train, validation, test = self._names_by_subset("speaker")
        return bool(test or validation) and (test or validation) <= train

    @property
    def shares_contents(self) -> bool:
        """Whether sentences of the test set are trained on, if it has any."""
        if self.apart:
            return super().shares_contents
        train, _, test = self._names_by_subset("content")
        return not test or not test.isdisjoint(train)

    def _names_by_subset(self, attribute: str) -> list[set[str]]:
        """Names of an attribute's classes in each of the column split's :data:`SUBSETS`."""
        rows = self._rows.values()
        return [{row.label(attribute) for row in rows if row.cells["split"] == subset} for subset in SUBSETS]

    def find_utterances(self) -> list[Utterance]:
        for row in self._rows.values():
            if problem := not_a_file(row.file):
                raise row.error(f"{row.file}: {problem}; correct the path, which starts at the manifest's folder")
        return [self._utterance(row) for row in self._rows.values()]

    def folds(self) -> list[tuple[int, ...]]:
        index = self._indices["speaker"]
        folds = balanced_folds(self._gender_of, self._folds_wanted, self.split_seed)
        return [tuple(sorted(index[speaker] for speaker in fold)) for fold in folds]

    def form_subsets(self, utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
        if self.apart:
            return super().form_subsets(utterances)
        return {subset: [u for u in utterances if self._rows[u.id].cells["split"] == subset] for subset in SUBSETS}

    def check_subsets(self, subsets: Mapping[str, Sequence[Utterance]]) -> None:
        """Refuse a class that occurs in one subset only. A subset may be empty until it is asked for.

        Nobody classifies sentences where the test set has none of the training set's.
        """
        if not subsets["train"]:
            return
        named = {"training": subsets["train"], "validation": subsets["validation"], "test": subsets["test"]}
        for attribute in ("emotion", "gender", *(["content"] if self.shares_contents else [])):
            pairs = [("validation", "training"), ("test", "training")]
            if self.split == "manifest" and subsets["test"] and attribute not in self._named:
                pairs.append(("training", "test"))
            for here, there in pairs:
                known = {utterance.label(attribute) for utterance in named[there]}
                if lacking := [utterance for utterance in named[here] if utterance.label(attribute) not in known]:
                    row, remedy = self._rows[lacking[0].id], "correct the name or the split"
                    if there == "test":
                        remedy += f", or if that is meant, state the names of {attribute} in classes"
                    raise row.error(
                        f"{attribute} '{row.label(attribute)}' occurs in the {here} set, but not in the {there} set "
                        f"of split '{self.split}'; {remedy}"
                    )

    def _find_classes(self, attribute: str) -> tuple[str, ...]:
        """Names of an attribute's classes in the order of their indices: the given names, or those that occur."""
        rows = self._rows.values()
        if attribute not in self._named:
            return tuple(sorted({row.label(attribute) for row in rows}))
        names = self._named[attribute]
        if not names or len(set(names)) < len(names):
            raise PseganError(f"classes: the names of {attribute} must be one or more, each once")
        for row in rows:
            if attribute not in row.cells:
                raise PseganError(
                    f"{row.manifest}: has no column {attribute}, but classes has that key; remove it there"
                )
            if row.cells[attribute] not in names:
                raise row.error(
                    f"{attribute} '{row.cells[attribute]}' is not one of the classes given ({', '.join(names)}); correct it"
                )
        return tuple(names)

    def _utterance(self, row: Row) -> Utterance:
        labels = {attribute: self._indices[attribute][row.label(attribute)] for attribute in ATTRIBUTES}
        details = {name: text for name, text in row.cells.items() if name not in KNOWN and text}
        text = row.cells.get("text") or None
        return Utterance(id=row.cells["id"], path=row.file, **labels, details=details, text=text)


def _genders(rows: Iterable[Row]) -> dict[str, str]:
    """Speaker → gender; a speaker with two is refused."""
    genders: dict[str, str] = {}
    for row in rows:
        speaker, gender = row.cells["speaker"], row.label("gender")
        if genders.setdefault(speaker, gender) != gender:
            raise row.error(
                f"speaker '{speaker}' is {gender} here and {genders[speaker]} in an earlier row; "
                "give every speaker one gender and a name of their own"
            )
    return genders


def _read_corpus(manifests: Sequence[Path]) -> list[Row]:
    """The rows of all manifests, checked. With several, ids begin with the name of the manifest's folder."""
    rows: list[Row] = []
    for path in manifests:
        found = _read_rows(path)
        if len(manifests) > 1:
            folder = path.absolute().parent.name
            found = [Row(path, row.line, {**row.cells, "id": f"{folder}/{row.cells['id']}"}) for row in found]
        for column in STATED:
            if rows and (column in rows[0].cells) != (column in found[0].cells):
                has, lacks = (rows[0].manifest, path) if column in rows[0].cells else (path, rows[0].manifest)
                raise PseganError(f"{lacks}: has no column {column}, but {has} has; add it there or remove it here")
        rows += found
    seen: dict[str, Row] = {}
    for row in rows:
        for text in (f"id '{row.cells['id']}'", f"recording {os.path.normpath(row.file)}"):
            if (first := seen.setdefault(text, row)) is not row:
                where = f"line {first.line}" + (f" of {first.manifest}" if first.manifest != row.manifest else "")
                raise row.error(f"{text} is there already, in {where}; remove or rename one of the two")
    without_split = [row for row in rows if not row.cells.get("split")]
    if 0 < len(without_split) < len(rows):
        raise without_split[0].error(
            f"has no split, but {len(rows) - len(without_split)} of {len(rows)} rows have one; fill it in for all or for none"
        )
    return rows


def _read_rows(path: Path) -> list[Row]:
    """The rows of one manifest, each checked and with all columns."""
    read = {".csv": _csv_rows, ".jsonl": _jsonl_rows}[_kind(path)]
    if problem := not_a_file(path):
        raise PseganError(f"{path}: {problem}; name a manifest (docs/corpora.md)")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(read(path, file))
    except OSError as error:
        raise PseganError(f"{path}: cannot be read ({error.strerror}); name a manifest (docs/corpora.md)") from None
    except (UnicodeDecodeError, csv.Error) as error:
        reason = str(error) if isinstance(error, csv.Error) else "it is no text in UTF-8"
        raise PseganError(f"{path}: is no manifest ({reason}); see docs/corpora.md for the format") from None
    if not rows:
        raise PseganError(f"{path}: lists no utterance; see docs/corpora.md for the format")
    columns = dict.fromkeys(name for row in rows for name in row.cells)
    for name in REQUIRED:
        if name not in columns:
            listed = " ".join(f"{', '.join(columns)}"[:100].split())
            raise PseganError(f"{path}: has no column {name} (but {listed}); see docs/corpora.md for the format")
    if not any(row.cells.get("split") for row in rows):
        columns.pop("split", None)
    return [_complete(row, columns) for row in rows]


def _complete(row: Row, columns: Iterable[str]) -> Row:
    """The row with all columns and an id, checked."""
    cells = {name: row.cells.get(name, "") for name in columns}
    for name in ("path", *ATTRIBUTES):
        if cells.get(name) == "":
            column = "" if name in REQUIRED else f" or the whole column {name}"
            raise row.error(f"{name} is empty; fill it in, or remove the row{column}")
    for name in KNOWN:
        if not cells.get(name, "").isprintable():
            raise row.error(f"{name} holds a line break or another unprintable character; remove it")
    if cells.get("split") and cells["split"] not in SUBSETS:
        raise row.error(f"split is '{cells['split']}'; one of {', '.join(SUBSETS)}")
    path = PurePosixPath(cells["path"])
    id = cells.get("id") or "/".join([*(part for part in path.parent.parts if part not in ("/", "..")), path.stem])
    if id.startswith("/") or ".." in id.split("/") or str(PurePosixPath(id)) != id or id == ".":
        # of two spellings of a path, such as a/b and a//b, one protected recording would replace the other's
        raise row.error(f"id '{id}' is no plain path below a folder, which recordings are written to; rename it")
    return Row(row.manifest, row.line, {**cells, "id": id})


def _kind(path: Path) -> str:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise PseganError(f"{path}: a manifest ends in .csv or .jsonl; rename or convert it (docs/corpora.md)")
    return path.suffix.lower()


def _csv_rows(path: Path, file: TextIO) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    names = [name.strip() for name in next(reader, ())]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise PseganError(f"{path}, line 1: the column {twice[0]} is there twice; remove or rename one of the two")
    for cells in filter(None, reader):
        named = zip(names, cells, strict=False)
        row = Row(path, reader.line_num, {name: cell.strip() for name, cell in named if name})  # an index has no name
        if len(cells) != len(names):
            raise row.error(
                f"has {len(cells)} cells, but the header {len(names)}; put a text with commas in double quotes"
            )
        yield row


class _Pairs(list[tuple[str, Any]]):
    """Keys and values of an object of JSON, which may name a key twice."""


def _jsonl_rows(path: Path, file: TextIO) -> Iterator[Row]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        row = Row(path, number, {})
        try:
            value = json.loads(text, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:  # a number can be too long, too
            # without the position, which is never beyond the first line
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number or a nest is too long"
            raise row.error(f"is not JSON ({reason}); write one object a line") from None
        if not isinstance(value, _Pairs):
            raise row.error('is not an object of JSON, as {"path": ...}; write one a line')
        cells: dict[str, str] = {}
        for name, cell in ((name.strip(), cell) for name, cell in value):
            if isinstance(cell, list):
                raise row.error(f"{name} is no text but a list or an object; write a text")
            if name in cells:
                raise row.error(f"{name} is there twice; remove or rename one of the two")
            cells[name] = cell.strip() if isinstance(cell, str) else "" if cell is None else json.dumps(cell)
        yield Row(path, number, cells)
