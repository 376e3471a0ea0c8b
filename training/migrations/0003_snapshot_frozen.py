from django.db import migrations, models

# A later migration that makes SQLite rebuild this table drops the trigger with it:
# repeat `freeze` at its end. test_the_database_refuses_to_change_a_snapshot tells.
SQLITE = """
CREATE TRIGGER snapshot_is_frozen BEFORE UPDATE ON training_snapshot
WHEN OLD.state = 'ready'
BEGIN SELECT RAISE(ABORT, 'a snapshot that is ready never changes'); END
"""
POSTGRESQL = """
CREATE FUNCTION snapshot_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a snapshot that is ready never changes'
  USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER snapshot_is_frozen BEFORE UPDATE ON training_snapshot
FOR EACH ROW WHEN (OLD.state = 'ready') EXECUTE FUNCTION snapshot_is_frozen();
"""


def freeze(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(SQLITE)
    else:
        schema_editor.execute(POSTGRESQL)


def thaw(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER snapshot_is_frozen")
    else:
        schema_editor.execute("DROP TRIGGER snapshot_is_frozen ON training_snapshot")
        schema_editor.execute("DROP FUNCTION snapshot_is_frozen")


class Migration(migrations.Migration):
    dependencies = [("training", "0002_run_wish_and_shipping")]

    operations = [
        migrations.AddField("snapshot", "beat_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "snapshot", "progress", models.CharField(blank=True, max_length=200)
        ),
        migrations.RunPython(freeze, thaw),
    ]
