from django.db import migrations

# A later migration that makes SQLite rebuild this table drops the trigger with it:
# repeat `freeze` at its end. test_the_database_refuses_to_change_a_snapshot tells.
SQLITE = """
CREATE TRIGGER IF NOT EXISTS snapshot_is_frozen BEFORE UPDATE ON training_snapshot
WHEN OLD.state = 'ready'
BEGIN SELECT RAISE(ABORT, 'a snapshot that is ready never changes'); END
"""
POSTGRESQL = """
CREATE OR REPLACE FUNCTION snapshot_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a snapshot that is ready never changes'
  USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE OR REPLACE TRIGGER snapshot_is_frozen BEFORE UPDATE ON training_snapshot
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
    dependencies = [("training", "0001_initial")]

    operations = [migrations.RunPython(freeze, thaw)]
