"""Parquet files: the columns that a table may have, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervecode.errors import InputError
from nervecode.lab.data.by_path.cells import without_missing_words
from nervecode.lab.data.by_path.columns import check_columns

if TYPE_CHECKING:
    from pandas import DataFrame


def parquet_names(path: Path) -> list[str]:
    """The names of the columns, an index of pandas aside."""
    from pyarrow import parquet

    schema = parquet.read_schema(path)
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in schema.names if name not in index]


def parquet_blocks(path: Path, names: Sequence[str], rows: int) -> Iterator[DataFrame]:
    """Some columns of a file as it has them, `rows` rows at a time.

    Raises:
        InputError: a column that is absent, or of another type than numbers and texts.
    """
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(path, schema.names, names)
        kinds: tuple[Callable[[Any], bool], ...] = (
            types.is_integer, types.is_floating, types.is_boolean, types.is_string,
            types.is_large_string, types.is_dictionary, types.is_decimal, types.is_null,
        )  # fmt: skip
        for name in names:
            found = schema.field(name).type
            if not any(kind(found) for kind in kinds):
                raise InputError(
                    f"{path}: column {name!r} holds {found}, allowed: numbers, texts, true and "
                    f"false; data.drop=[{name}] leaves out what is no target"
                )
        for batch in file.iter_batches(batch_size=rows, columns=names):
            yield batch.to_pandas(types_mapper=_nullable).apply(without_missing_words)


def _nullable(kind: Any) -> Any:
    """The type of integers, or of true and false, that pandas keeps where one is missing."""
    import pandas as pd
    from pyarrow import types

    if types.is_boolean(kind):
        return pd.BooleanDtype()
    if types.is_integer(kind):
        return pd.api.types.pandas_dtype(str(kind).replace("uint", "UInt").replace("int", "Int"))
    return None
