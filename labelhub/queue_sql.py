"""The statements that every answer passes through, for SQLite and PostgreSQL.

In SQL, because building these queries from models takes ten times as long as running
them (docs/performance.md). Only `labelhub.queue` runs them.
"""

from __future__ import annotations

from django.db import connection

# ruff: noqa: S608 (what is put together here are constants of this module)

if connection.vendor == "postgresql":
    NOW = "statement_timestamp()"
    LEASE_END = f"{NOW} + make_interval(secs => %(lease_seconds)s)"
    SECONDS_HELD = f"extract(epoch FROM {NOW} - leased_at)::float8"
    LOCK_MEMBERSHIP = "FOR NO KEY UPDATE OF membership"
    LOCK_TASK = "FOR NO KEY UPDATE OF task"
    PASS_OVER_LOCKED = f"{LOCK_TASK} SKIP LOCKED"
else:
    NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
    LEASE_END = f"{NOW[:-1]}, %(lease_seconds)s || ' seconds')"
    SECONDS_HELD = "(julianday('now') - julianday(leased_at)) * 86400"
    LOCK_MEMBERSHIP = LOCK_TASK = PASS_OVER_LOCKED = ""
    """On SQLite the transaction is the lock."""

# --- Taking an item

ROLE = f"""
    SELECT role FROM labelhub_membership membership
    WHERE project_id = %(project)s AND user_id = %(annotator)s {LOCK_MEMBERSHIP}
"""

# Guarded twice: the reaper may have it in hand.
RESUME = f"""
    UPDATE labelhub_assignment SET lease_expires_at = {LEASE_END}
    WHERE state = 'leased' AND id = (
        SELECT id FROM labelhub_assignment
        WHERE annotator_id = %(annotator)s AND project_id = %(project)s
        AND state = 'leased' ORDER BY leased_at DESC LIMIT 1
    )
    RETURNING id
"""

# The first two conditions are those of the index task_claimable, in literals: with
# parameters in their place neither database would use it.
CLAIMABLE = """
    task.status = 'open' AND task.n_required > (task.n_done + task.n_leased)
    AND task.project_id = %(project)s
"""
NOT_MINE = """
    NOT EXISTS (
        SELECT 1 FROM labelhub_assignment mine
        WHERE mine.task_id = task.id AND mine.annotator_id = %(annotator)s
        AND mine.state IN ('leased', 'submitted', 'skipped')
    )
"""
IN_BAND = "AND task.priority = %(band)s AND task.shuffle_key"

BAND = f"""
    SELECT task.priority FROM labelhub_task task WHERE {CLAIMABLE}
    AND task.priority < %(above)s ORDER BY task.priority DESC LIMIT 1
"""

ANY_LEFT = f"""
    SELECT 1 FROM labelhub_task task WHERE {CLAIMABLE} AND {NOT_MINE} LIMIT 1
"""


def take(where: str = "") -> str:
    """Count one more lease on the first such task that is not locked; its id.

    One statement, so that nothing comes between choosing and counting. The outer
    guard is for PostgreSQL, where the row may have changed since the snapshot.
    """
    return f"""
        UPDATE labelhub_task SET n_leased = n_leased + 1
        WHERE n_required > (n_done + n_leased) AND id = (
            SELECT task.id FROM labelhub_task task
            WHERE {CLAIMABLE} {where} AND {NOT_MINE}
            ORDER BY task.priority DESC, task.shuffle_key LIMIT 1 {PASS_OVER_LOCKED}
        )
        RETURNING id
    """


TAKE_FIRST = take()
TAKE_FROM = take(f"{IN_BAND} >= %(start)s")
TAKE_BEFORE = take(f"{IN_BAND} < %(start)s")

LEASE = f"""
    INSERT INTO labelhub_assignment (
        id, project_id, task_id, annotator_id, guideline_id, state, swapped,
        lease_expires_at, leased_at, skip_reason
    )
    SELECT %(id)s, %(project)s, %(task)s, %(annotator)s, (
            SELECT id FROM labelhub_guideline WHERE project_id = %(project)s
            ORDER BY version DESC LIMIT 1
        ), 'leased', %(is_pairwise)s AND CASE
            WHEN count(*) FILTER (WHERE swapped) * 2 = count(*) THEN %(coin)s
            ELSE count(*) FILTER (WHERE swapped) * 2 < count(*)
        END, {LEASE_END}, {NOW}, ''
    FROM labelhub_assignment
    WHERE task_id = %(task)s AND state IN ('leased', 'submitted')
    ON CONFLICT (task_id, annotator_id) DO UPDATE SET
        guideline_id = excluded.guideline_id, state = 'leased', ended_at = NULL,
        lease_expires_at = excluded.lease_expires_at, leased_at = excluded.leased_at
    RETURNING id
"""

# --- Giving it back

COUNT_ANSWER = (
    """
    UPDATE labelhub_task SET
        n_leased = n_leased - %(held)s, n_done = n_done + %(counts)s,
        status = %(status)s
    WHERE id = %(task)s
    """,
    f"""
    UPDATE labelhub_assignment SET state = 'submitted', ended_at = {NOW}
    WHERE id = %(assignment)s
    """,
    """
    UPDATE labelhub_membership SET n_judged = n_judged + 1
    WHERE project_id = %(project)s AND user_id = %(annotator)s
    """,
)

MEMBER = f"""
    SELECT project.* FROM labelhub_assignment assignment
    JOIN labelhub_project project ON project.id = assignment.project_id
    JOIN labelhub_membership membership ON membership.project_id = project.id
    WHERE assignment.id = %(assignment)s AND membership.user_id = %(annotator)s
    {LOCK_MEMBERSHIP}
"""
TASK = f"""
    SELECT task.* FROM labelhub_task task
    WHERE id = (SELECT task_id FROM labelhub_assignment WHERE id = %(assignment)s)
    {LOCK_TASK}
"""
ASSIGNMENT = f"""
    SELECT *, {SECONDS_HELD} AS seconds_held FROM labelhub_assignment
    WHERE id = %(assignment)s AND annotator_id = %(annotator)s
"""

JUDGMENT = """
    INSERT INTO labelhub_judgment (
        project_id, task_id, assignment_id, annotator_id, source, verdict, strength,
        shown_left, seconds, note, revision, surplus, superseded_by_id, judge_name,
        external_id
    ) VALUES (
        %(project)s, %(task)s, %(assignment)s, %(annotator)s, 'human', %(verdict)s,
        %(strength)s, %(shown_left)s, %(seconds)s, %(note)s, %(revision)s, %(surplus)s,
        %(superseded_by)s, '', ''
    )
    RETURNING *
"""
