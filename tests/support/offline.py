"""Offline runs of W&B, read back with W&B's own reader."""

import json
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore


def read_offline_run(folder: Path, patience: float = 20.0) -> list[Record]:
    """All records of an offline run that has ended; W&B's service may write the last of them after ``finish`` returns.

    Raises:
        TimeoutError: there is no end after ``patience`` seconds.
    """
    until = time.monotonic() + patience
    while not kinds(records := _records(folder), "exit"):
        if time.monotonic() > until:
            raise TimeoutError(f"{folder} has {len(records)} records and no end")
        time.sleep(0.05)
    return records


def _records(folder: Path) -> list[Record]:
    (path,) = folder.glob("run-*.wandb")
    store = DataStore()
    try:
        store.open_for_scan(str(path))
        records = []
        while (data := store.scan_data()) is not None:
            record = Record()
            record.ParseFromString(data)
            records.append(record)
    except (AssertionError, DecodeError):  # it is being written
        return []
    return records


def kinds(records: list[Record], kind: str) -> list[Any]:
    """What the records of one kind hold."""
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def history(records: list[Record]) -> dict[str, list]:
    """Logged values by name."""
    found: dict[str, list] = {}
    for record in kinds(records, "history"):
        for name, value in _row(record.item).items():
            found.setdefault(name, []).append(value)
    return found


def summary(records: list[Record]) -> dict[str, Any]:
    """What was written into the summary, beside the last values of the history."""
    found: dict[str, Any] = {}
    for record in kinds(records, "summary"):
        found |= _row(record.update)
    return found


def _row(items: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in items:
        name, *field = item.nested_key or [item.key]
        value = json.loads(item.value_json)
        row[name] = {**row.get(name, {}), "/".join(field): value} if field else value
    return row


def configuration(records: list[Record]) -> dict[str, Any]:
    """The configuration of the run."""
    found = {}
    for record in records:
        kind = record.WhichOneof("record_type")
        for item in record.config.update if kind == "config" else record.run.config.update if kind == "run" else ():
            found[item.key or item.nested_key[0]] = json.loads(item.value_json)
    return found
