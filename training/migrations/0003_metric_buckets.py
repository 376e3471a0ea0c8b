import django.db.models.deletion
from django.db import migrations, models

# What training/metric_points.py does for the points of a batch, for all there are.
FILL = """
INSERT INTO training_metricbucket
  (attempt_id, width, start, name, first_step, last_step, n, total, low, high,
   n_nan, n_inf, n_minus_inf)
"""
FROM_POINTS = """
SELECT attempt_id, 4, step - step % 4, name, min(step), max(step), count(value),
  coalesce(sum(CASE WHEN abs(value) < 1e-290 THEN 0 ELSE value / 4 END), 0),
  min(value), max(value),
  count(CASE WHEN nonfinite = 'nan' THEN 1 END),
  count(CASE WHEN nonfinite = 'inf' THEN 1 END),
  count(CASE WHEN nonfinite = '-inf' THEN 1 END)
FROM training_metricpoint GROUP BY attempt_id, step - step % 4, name
"""
FROM_BUCKETS = """
SELECT attempt_id, {width}, start - start % {width}, name, min(first_step),
  max(last_step), sum(n), sum(total * 0.25), min(low), max(high), sum(n_nan),
  sum(n_inf), sum(n_minus_inf)
FROM training_metricbucket WHERE width = {width} / 4
GROUP BY attempt_id, start - start % {width}, name
"""


def fill(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(FILL + FROM_POINTS)
        for width in (16, 64, 256, 1024, 4096, 16384):
            cursor.execute(FILL + FROM_BUCKETS.format(width=width))


class Migration(migrations.Migration):
    dependencies = [
        ("training", "0002_snapshot_frozen"),
    ]

    operations = [
        migrations.CreateModel(
            name="MetricBucket",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("width", models.PositiveIntegerField()),
                ("start", models.PositiveIntegerField()),
                ("name", models.CharField(max_length=100)),
                ("first_step", models.PositiveIntegerField()),
                ("last_step", models.PositiveIntegerField()),
                ("n", models.PositiveIntegerField()),
                ("total", models.FloatField()),
                ("low", models.FloatField(null=True)),
                ("high", models.FloatField(null=True)),
                ("n_nan", models.PositiveIntegerField()),
                ("n_inf", models.PositiveIntegerField()),
                ("n_minus_inf", models.PositiveIntegerField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="metricpoint",
            name="metricpoint_once",
        ),
        migrations.AlterField(
            model_name="metricpoint",
            name="attempt",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="metrics",
                to="training.attempt",
            ),
        ),
        migrations.AlterField(
            model_name="metricpoint",
            name="run",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="metrics",
                to="training.run",
            ),
        ),
        migrations.AddIndex(
            model_name="metricpoint",
            index=models.Index(fields=["run", "id"], name="metricpoint_newest"),
        ),
        migrations.AddIndex(
            model_name="metricpoint",
            index=models.Index(
                condition=models.Q(("nonfinite", ""), _negated=True),
                fields=["attempt", "step"],
                name="metricpoint_nonfinite",
            ),
        ),
        migrations.AddConstraint(
            model_name="metricpoint",
            constraint=models.UniqueConstraint(
                fields=("attempt", "name", "step"), name="metricpoint_once"
            ),
        ),
        migrations.AddField(
            model_name="metricbucket",
            name="attempt",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="metric_buckets",
                to="training.attempt",
            ),
        ),
        migrations.AddConstraint(
            model_name="metricbucket",
            constraint=models.UniqueConstraint(
                fields=("attempt", "width", "start", "name"), name="metricbucket_once"
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
