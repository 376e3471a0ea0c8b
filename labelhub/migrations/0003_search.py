"""Words of prompts and responses, and tasks in the order of the data explorer."""

from django.db import migrations, models

POSTGRESQL = [
    # What ends a word in one parser and not in the other becomes a space, so that both
    # databases find the same; an index may be made of immutable functions only.
    r"""
    CREATE FUNCTION labelhub_words(text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
        SELECT pg_catalog.to_tsvector('pg_catalog.simple', pg_catalog.translate(
            pg_catalog.left($1, 100000),
            '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~“”‘’«»–—…',
            pg_catalog.repeat(' ', 41)
        ))
    $$
    """,
    """
    CREATE FUNCTION labelhub_said(messages jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 100 AS $$
        SELECT pg_catalog.string_agg(turn ->> 'content', ' ')
        FROM pg_catalog.jsonb_array_elements($1) turn
    $$
    """,
    """
    CREATE INDEX prompt_words ON labelhub_prompt
    USING gin (labelhub_words(labelhub_said(messages)))
    """,
    """
    CREATE INDEX response_words ON labelhub_response USING gin (labelhub_words(text))
    """,
]
NOT_POSTGRESQL = [
    "DROP INDEX response_words",
    "DROP INDEX prompt_words",
    "DROP FUNCTION labelhub_said(jsonb)",
    "DROP FUNCTION labelhub_words(text)",
]
TABLES = ("labelhub_prompt_words", "labelhub_response_words")
SQLITE = [
    f"""
    CREATE VIRTUAL TABLE {table} USING fts5(
        project, text, content = '', tokenize = 'unicode61 remove_diacritics 0'
    )
    """
    for table in TABLES
]
NOT_SQLITE = [f"DROP TABLE {table}" for table in TABLES]


def forwards(apps, editor):
    """SQLite's tables are filled by the first search, and at the end of an import."""
    for sql in SQLITE if editor.connection.vendor == "sqlite" else POSTGRESQL:
        editor.execute(sql, params=None)


def backwards(apps, editor):
    for sql in NOT_SQLITE if editor.connection.vendor == "sqlite" else NOT_POSTGRESQL:
        editor.execute(sql, params=None)


class Migration(migrations.Migration):
    dependencies = [("labelhub", "0002_quality_report")]

    operations = [
        migrations.RunPython(forwards, backwards),
        migrations.RemoveIndex(model_name="task", name="task_by_status"),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                fields=["project", "status", "id"], name="task_by_status"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["project", "id"], name="task_in_order"),
        ),
    ]
