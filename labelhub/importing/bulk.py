"""Many rows into one table: COPY on PostgreSQL, executemany on SQLite.

`bulk_create` builds a model and a placeholder for every value and costs two to four
times as much. Ids are taken beforehand, so that rows which refer to each other can be
written table by table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import NotSupportedError, connection, models
from django.db.models.fields import NOT_PROVIDED


def take_ids(model: type[models.Model], count: int) -> list[int]:
    """Rising ids that nobody else will use.

    On SQLite only until the end of the transaction, which must hold the write lock.
    """
    if not count:
        return []
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, 'id'))"
                " FROM generate_series(1, %s)",
                [table, count],
            )
            return [pk for (pk,) in cursor.fetchall()]
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        found = cursor.fetchone()
    first = found[0] + 1 if found else 1
    return list(range(first, first + count))


def insert(
    model: type[models.Model], names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write rows of these fields, in this order; JSON comes as text.

    Fields that are not named get their default; where that is NULL, and an id, from
    the database.
    """
    if not rows:
        return
    given = [model._meta.get_field(name) for name in names]
    rest = [
        field
        for field in model._meta.concrete_fields
        if field not in given
        and field.db_default is NOT_PROVIDED
        and (field.has_default() or not field.null)
        and not isinstance(field, models.AutoField)
    ]
    defaults = tuple(
        field.get_db_prep_save(field.get_default(), connection) for field in rest
    )
    quote = connection.ops.quote_name
    columns = [str(field.column) for field in (*given, *rest)]  # type: ignore[union-attr]
    table, listed = quote(model._meta.db_table), ", ".join(map(quote, columns))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with (
                connection.wrap_database_errors,
                cursor.copy(f"COPY {table} ({listed}) FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write_row(row + defaults)
        elif connection.vendor == "sqlite":
            marks = ", ".join(["%s"] * len(columns))
            cursor.executemany(
                f"INSERT INTO {table} ({listed}) VALUES ({marks})",  # noqa: S608
                [row + defaults for row in rows],
            )
        else:
            raise NotSupportedError(connection.vendor)
