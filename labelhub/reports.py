"""Quality reports: asked for, made by a process of its own, kept.

The queue only starts that process, so a lost or doubled task does no harm.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django_q.tasks import async_task

from labelhub.models import Project, QualityReport, User

State = QualityReport.State
LOST_AFTER = timedelta(minutes=30)
"""Without a result for so long, whoever measured is taken for dead."""
FRESH_FOR = timedelta(hours=1)
KEPT = 20


def newest(project: Project) -> QualityReport | None:
    """The last complete one."""
    complete = project.quality_reports.filter(state=State.COMPLETE)
    return complete.order_by("-pk").first()


def underway(project: Project) -> QualityReport | None:
    return project.quality_reports.filter(
        state__in=(State.WAITING, State.MEASURING)
    ).first()


def is_outdated(report: QualityReport | None, project: Project) -> bool:
    """Whether something was judged since, and an hour has passed."""
    newest_judgment = _newest_judgment(project)
    if report is None:
        return newest_judgment > 0
    old = QualityReport.objects.filter(pk=report.pk, finished_at__lt=Now() - FRESH_FOR)
    return newest_judgment > report.newest_judgment and old.exists()


def ask(project: Project, person: User | None = None) -> QualityReport:
    """The report that is being made, or a new one; asking twice does no harm."""
    project.quality_reports.filter(
        state__in=(State.WAITING, State.MEASURING), created_at__lt=Now() - LOST_AFTER
    ).update(state=State.FAILED, error="Nothing was heard of it.", finished_at=Now())
    try:
        with transaction.atomic():
            report = QualityReport.objects.create(project=project, created_by=person)
    except IntegrityError:
        report = underway(project) or project.quality_reports.latest("pk")
    if report.state == State.WAITING:
        transaction.on_commit(
            lambda: async_task("labelhub.tasks.measure_quality", report.pk), robust=True
        )
    return report


def start(report_id: int) -> subprocess.Popen[bytes] | None:
    """Start the process that makes a waiting report; it outlives the caller."""
    waiting = QualityReport.objects.filter(pk=report_id, state=State.WAITING)
    if not waiting.update(state=State.MEASURING):
        return None
    slug = QualityReport.objects.values_list("project__slug", flat=True).get(
        pk=report_id
    )
    return subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, str(settings.BASE_DIR / "manage.py")),
            *("quality", slug, "--report", str(report_id)),
        ],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def make(report: QualityReport) -> None:
    """Measure, and keep the numbers or what went wrong."""
    # Here, for numpy and scipy are no business of the web process.
    from labelhub.measuring import measure
    from labelhub.quality.estimate import as_json

    report.newest_judgment = _newest_judgment(report.project)
    try:
        report.numbers = as_json(measure(report.project))
    except Exception as exc:
        _finish(report, State.FAILED, error=str(exc) or type(exc).__name__)
        raise
    _finish(report, State.COMPLETE)
    of_project = report.project.quality_reports.order_by("-pk")
    kept = list(of_project.values_list("pk", flat=True)[:KEPT])
    report.project.quality_reports.exclude(pk__in=kept).delete()


def _finish(report: QualityReport, state: State, error: str = "") -> None:
    QualityReport.objects.filter(pk=report.pk).update(
        state=state,
        error=error[:1000],
        numbers=report.numbers,
        newest_judgment=report.newest_judgment,
        finished_at=Now(),
    )


def _newest_judgment(project: Project) -> int:
    pks = project.judgments.order_by("-pk").values_list("pk", flat=True)
    return pks.first() or 0
