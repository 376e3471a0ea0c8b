"""Reading rows from a folder, one file or the hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.core.config import RLHFAlgorithm, RLHFConfig
from training.core.errors import RLHFDatasetError
from training.core.locations import hub_id, local_path

Row = dict[str, Any]

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Source:
    """The rows of a dataset as they were found."""

    train: list[Row]
    eval: list[Row] | None
    description: str
    """Where the rows came from: file names, or a hub id with splits."""


def load_source(config: RLHFConfig) -> Source:
    """Read the training rows and, where there are any, the held-out ones.

    Raises:
        RLHFDatasetError: RLHF020 not found, RLHF021 a format that is not read, RLHF024
            a file that is damaged.
    """
    train, eval_, description = _load(
        config.dataset_path, config.train_split, config.eval_split, config.algorithm
    )
    if config.eval_dataset_path:
        eval_, _, where = _load(
            config.eval_dataset_path, config.eval_split, None, config.algorithm
        )
        description = f"{description}; held out: {where}"
    return Source(train, eval_, description)


def _load(
    name: str, first: str, second: str | None, algorithm: RLHFAlgorithm
) -> tuple[list[Row], list[Row] | None, str]:
    path = local_path(name)
    if path is None:
        return _load_from_hub(name, first, second, algorithm)
    if path.is_dir():
        return _load_folder(path, first, second)
    if not path.exists():
        raise RLHFDatasetError(f"There is no file or folder {path}.", code="RLHF020")
    if first not in ("train", "eval"):
        raise RLHFDatasetError(
            f"{path.name} is one file and has no split {first}.", code="RLHF020"
        )
    return read_rows(path), None, path.name


def _load_folder(
    folder: Path, first: str, second: str | None
) -> tuple[list[Row], list[Row] | None, str]:
    train = _split_file(folder, first)
    # A folder of held-out data alone often calls them train.
    if train is None and second is None:
        train = _split_file(folder, "train")
    if train is None:
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise RLHFDatasetError(
            f"{folder} has no {first} as .parquet, .jsonl, .json or .csv; it holds "
            f"{found}.",
            code="RLHF020",
        )
    held_out = _split_file(folder, second) if second else None
    if second not in (None, "eval") and held_out is None:
        raise RLHFDatasetError(
            f"{folder} has no file for eval_split {second}.", code="RLHF020"
        )
    names = train.name if held_out is None else f"{train.name}, {held_out.name}"
    return read_rows(train), read_rows(held_out) if held_out else None, names


def _split_file(folder: Path, split: str) -> Path | None:
    candidates = (folder / f"{split}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_rows(path: Path) -> list[Row]:
    """Every row of one file.

    Raises:
        RLHFDatasetError: RLHF021 for a suffix that is not read, RLHF024 with the line
            where the file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise RLHFDatasetError(
            f"{path.name} is not one of {', '.join(SUFFIXES)}.", code="RLHF021"
        )
    if suffix == ".parquet":
        return _read_parquet(path)
    try:
        reader = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows}
        return list(reader[suffix](path))
    except UnicodeDecodeError as error:
        raise _damaged(path, f"is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise RLHFDatasetError(
            f"{path} cannot be read: {error.strerror}.", code="RLHF020"
        ) from error


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, f"cannot be read as Parquet: {error}") from error
    return rows


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _damaged(path, f"line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise _damaged(path, f"line {number} is no object with columns")
            yield row


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        raise _damaged(path, f"is no JSON: {error}") from error
    if not isinstance(rows, list):
        raise _damaged(path, "is no list of objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise _damaged(path, f"entry {number} is no object with columns")
        yield row


def _csv_rows(path: Path) -> Iterator[Row]:
    # Answers are longer than the module's limit of 128 KiB.
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise _damaged(
                        path,
                        f"line {reader.line_num} has not the "
                        f"{len(reader.fieldnames or ())} fields of the header",
                    )
                yield row
        except csv.Error as error:
            raise _damaged(path, f"line {reader.line_num}: {error}") from error


def _damaged(path: Path, what: str) -> RLHFDatasetError:
    return RLHFDatasetError(f"{path.name} {what}.", code="RLHF024")


def _load_from_hub(
    name: str, first: str, second: str | None, algorithm: RLHFAlgorithm
) -> tuple[list[Row], list[Row] | None, str]:
    import datasets

    repository, revision = hub_id(name)
    try:
        names = datasets.get_dataset_split_names(repository, revision=revision)
        train = _split_name(names, first, algorithm)
        if train is None:
            raise RLHFDatasetError(
                f"{repository} has no split {first}; it has {', '.join(names)}.",
                code="RLHF020",
            )
        held_out = _split_name(names, second, algorithm) if second else None
        if second not in (None, "eval") and held_out is None:
            raise RLHFDatasetError(
                f"{repository} has no split {second}; it has {', '.join(names)}.",
                code="RLHF020",
            )
        splits = [split for split in (train, held_out) if split]
        loaded = [
            datasets.load_dataset(repository, split=split, revision=revision).to_list()
            for split in splits
        ]
    # What the hub client raises for a missing, private or unreachable repository: its
    # own errors are subclasses of these.
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise RLHFDatasetError(
            f"{name} is neither a file or folder here nor a dataset that the hub hands "
            f"out: {reason}",
            code="RLHF020",
        ) from error
    description = f"{name}, {' and '.join(splits)}"
    return loaded[0], loaded[1] if held_out else None, description


def _split_name(names: list[str], wanted: str, algorithm: RLHFAlgorithm) -> str | None:
    """The split that is meant, where the hub's custom is to name it otherwise."""
    task = "sft" if algorithm is RLHFAlgorithm.SFT else "prefs"
    candidates = {
        "train": ("train", f"train_{task}"),
        "eval": ("eval", f"test_{task}", "test", "validation"),
    }.get(wanted, (wanted,))
    return next((name for name in candidates if name in names), None)
