"""Recount everything that a counter, a state or an order claims.

Each question is one statement, so it sees one moment: people may go on judging while
it is asked. All counting is done by the database; only what is wrong comes here, so
memory is flat. Other apps register checks of their own (`training.integrity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.db import connection, models, transaction

from labelhub.models import ImportBatch, Membership, Project, Task

BY_REPAIR = "check_integrity --repair counts it anew."
FROM_BACKUP = (
    "No command knows which is right: compare with a backup, and report how it came."
)


class Problem(NamedTuple):
    """A row that says one thing where the rows it speaks of say another."""

    subject: str
    """As `task:12`."""
    sentence: str
    way_out: str = FROM_BACKUP

    def __str__(self) -> str:
        return f"{self.subject}: {self.sentence} {self.way_out}"


class Question(NamedTuple):
    """SQL whose rows are problems; its columns fill the subject and the sentence."""

    sql: str
    subject: str
    sentence: str
    way_out: str = FROM_BACKUP

    def problems(self) -> Iterator[Problem]:
        # On PostgreSQL a cursor of the server: however much is wrong, a page at a time.
        with connection.chunked_cursor() as cursor:
            cursor.execute(self.sql)
            while rows := cursor.fetchmany(1000):
                names = [column[0] for column in cursor.description]
                for row in rows:
                    found = dict(zip(names, row, strict=True))
                    yield Problem(
                        self.subject.format(**found),
                        self.sentence.format(**found),
                        self.way_out,
                    )


Check = Callable[[], Iterator[Problem]]
_checks: list[Check] = []


def register(check: Check) -> Check:
    """Have `check_integrity` ask this as well."""
    _checks.append(check)
    return check


def problems() -> Iterator[Problem]:
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            # The site sorts in memory; a million groups would cost hundreds of MB.
            cursor.execute("PRAGMA temp_store = FILE")
    for check in _checks:
        yield from check()


# --- Counters -----------------------------------------------------------------

_VOTES = """
    (SELECT COUNT(*) FROM labelhub_judgment j
     WHERE j.task_id = t.id AND j.source = 'human' AND j.superseded_by_id IS NULL
     AND NOT j.surplus)
"""
_LEASES = """
    (SELECT COUNT(*) FROM labelhub_assignment a
     WHERE a.task_id = t.id AND a.state = 'leased')
"""
_JUDGED = """
    (SELECT COUNT(*) FROM labelhub_assignment a
     WHERE a.project_id = t.project_id AND a.annotator_id = t.user_id
     AND a.state = 'submitted')
"""
_IN_QUEUE = """
    (SELECT COUNT(*) FROM labelhub_task k
     WHERE k.project_id = t.id AND k.status IN ('open', 'done'))
"""


def _counter(table: str, name: str, count: str) -> Question:
    return Question(
        f"""
        SELECT id, says, counted
        FROM (SELECT t.id, t.{name} AS says, {count} AS counted FROM {table} t) found
        WHERE says <> counted ORDER BY id
        """,  # noqa: S608 (constants of this module)
        subject=f"{table.removeprefix('labelhub_')}:{{id}}",
        sentence=f"{name} is {{says}}, counted {{counted}}.",
        way_out=BY_REPAIR,
    )


COUNTERS = (
    _counter("labelhub_task", "n_done", _VOTES),
    _counter("labelhub_task", "n_leased", _LEASES),
    Question(
        """
        SELECT id, status, n_done, n_required FROM labelhub_task
        WHERE (status = 'open' AND n_done >= n_required)
        OR (status = 'done' AND n_done <> n_required) ORDER BY id
        """,
        "task:{id}",
        "it is {status} with {n_done} of {n_required} judgments.",
        BY_REPAIR,
    ),
    _counter("labelhub_membership", "n_judged", _JUDGED),
    _counter("labelhub_project", "n_tasks", _IN_QUEUE),
)

_RECOUNTS: dict[str, tuple[type[models.Model], str]] = {
    "task": (
        Task,
        f"""
        UPDATE labelhub_task AS t SET n_done = {_VOTES}, n_leased = {_LEASES},
        status = CASE WHEN status NOT IN ('open', 'done') THEN status
                      WHEN {_VOTES} >= n_required THEN 'done' ELSE 'open' END
        WHERE id = %s
        """,  # noqa: S608
    ),
    "membership": (
        Membership,
        f"UPDATE labelhub_membership AS t SET n_judged = {_JUDGED} WHERE id = %s",  # noqa: S608
    ),
    "project": (
        Project,
        f"UPDATE labelhub_project AS t SET n_tasks = {_IN_QUEUE} WHERE id = %s",  # noqa: S608
    ),
}


def repair(problem: Problem) -> None:
    """Count the counters of one row anew, while nobody else can change them."""
    kind, _, pk = problem.subject.partition(":")
    model, recount = _RECOUNTS[kind]
    with transaction.atomic(), connection.cursor() as cursor:
        # Locked by a statement of its own: the next one then sees what the last
        # holder of the lock has written.
        list(model._default_manager.select_for_update().filter(pk=pk).values_list("pk"))
        cursor.execute(recount, [pk])


# --- What the queue writes ----------------------------------------------------

QUEUE = (
    Question(
        """
        SELECT id, n_required, n_done + n_leased AS in_hand FROM labelhub_task
        WHERE n_done + n_leased > n_required
        """,
        "task:{id}",
        "{in_hand} people have judged or hold it, {n_required} are to.",
    ),
    Question(
        """
        SELECT a.id, a.state, COUNT(j.id) AS n,
            COUNT(CASE WHEN j.superseded_by_id IS NULL THEN j.id END) AS standing
        FROM labelhub_assignment a
        LEFT JOIN labelhub_judgment j ON j.assignment_id = a.id
        GROUP BY a.id, a.state
        HAVING COUNT(CASE WHEN j.superseded_by_id IS NULL THEN j.id END)
            <> CASE WHEN a.state = 'submitted' THEN 1 ELSE 0 END
        OR (a.state <> 'submitted' AND COUNT(j.id) > 0)
        """,
        "assignment:{id}",
        "it is {state} and has {n} judgments, of which {standing} stand.",
    ),
    Question(
        """
        SELECT id, state FROM labelhub_assignment
        WHERE (state = 'leased' AND ended_at IS NOT NULL)
        OR (state <> 'leased' AND ended_at IS NULL)
        """,
        "assignment:{id}",
        "it is {state}, and when it ended says otherwise.",
    ),
    Question(
        """
        SELECT a.id FROM labelhub_assignment a
        JOIN labelhub_task t ON t.id = a.task_id WHERE t.project_id <> a.project_id
        """,
        "assignment:{id}",
        "it is in another project than its task.",
    ),
    Question(
        """
        SELECT annotator_id, project_id, COUNT(*) AS n FROM labelhub_assignment
        WHERE state = 'leased' GROUP BY annotator_id, project_id HAVING COUNT(*) > 1
        """,
        "user:{annotator_id}",
        "they hold {n} items of project:{project_id} at once.",
        "Each comes back when its lease ends.",
    ),
    Question(
        """
        SELECT a.id, a.annotator_id FROM labelhub_assignment a
        JOIN labelhub_user u ON u.id = a.annotator_id
        LEFT JOIN labelhub_membership m
        ON m.user_id = a.annotator_id AND m.project_id = a.project_id
        WHERE a.state = 'leased' AND NOT u.is_superuser
        AND (m.id IS NULL OR m.role = 'viewer')
        """,
        "assignment:{id}",
        "user:{annotator_id} holds it and may not judge there.",
        "It comes back when its lease ends.",
    ),
)

# --- Judgments ----------------------------------------------------------------

JUDGMENTS = (
    Question(
        """
        SELECT j.id FROM labelhub_judgment j
        JOIN labelhub_assignment a ON a.id = j.assignment_id
        WHERE a.task_id <> j.task_id OR a.annotator_id <> j.annotator_id
        """,
        "judgment:{id}",
        "its task or annotator is not that of its assignment.",
    ),
    Question(
        """
        SELECT j.id, j.verdict, p.kind FROM labelhub_judgment j
        JOIN labelhub_task t ON t.id = j.task_id
        JOIN labelhub_project p ON p.id = t.project_id
        WHERE j.project_id <> p.id
        OR (p.kind = 'binary') <> (j.verdict IN ('good', 'bad'))
        """,
        "judgment:{id}",
        "“{verdict}” does not belong in its task's {kind} project.",
    ),
    Question(
        """
        SELECT j.id, j.shown_left FROM labelhub_judgment j
        JOIN labelhub_assignment a ON a.id = j.assignment_id
        JOIN labelhub_project p ON p.id = j.project_id
        WHERE j.shown_left <> CASE WHEN p.kind = 'binary' THEN ''
                                   WHEN a.swapped THEN 'b' ELSE 'a' END
        """,
        "judgment:{id}",
        "shown_left is “{shown_left}”, and its assignment says otherwise.",
    ),
    Question(
        """
        SELECT old.id, old.superseded_by_id FROM labelhub_judgment old
        JOIN labelhub_judgment new ON new.id = old.superseded_by_id
        WHERE new.assignment_id IS NULL OR old.assignment_id IS NULL
        OR new.assignment_id <> old.assignment_id
        OR new.revision <> old.revision + 1
        """,
        "judgment:{id}",
        "superseded_by is {superseded_by_id}, which is not the next revision.",
    ),
    Question(
        """
        SELECT assignment_id, COUNT(*) AS n, MAX(revision) AS last
        FROM labelhub_judgment WHERE assignment_id IS NOT NULL
        GROUP BY assignment_id HAVING MIN(revision) <> 1 OR MAX(revision) <> COUNT(*)
        """,
        "assignment:{assignment_id}",
        "its {n} revisions end with number {last}.",
    ),
    Question(
        """
        SELECT new.id FROM labelhub_judgment old
        JOIN labelhub_judgment new ON new.id = old.superseded_by_id
        WHERE new.surplus <> old.surplus
        """,
        "judgment:{id}",
        "it is surplus and the revision before it is not, or the other way round.",
    ),
)

# --- Probes -------------------------------------------------------------------

PROBES = (
    Question(
        """
        SELECT id, status FROM labelhub_task
        WHERE (status = 'probe') <> (repeat_of_id IS NOT NULL)
        OR (status = 'probe' AND n_required <> 1)
        """,
        "task:{id}",
        "it is {status}, and what it is a copy of says otherwise.",
    ),
    Question(
        """
        SELECT t.id, t.repeat_of_id FROM labelhub_task t
        JOIN labelhub_task o ON o.id = t.repeat_of_id
        WHERE o.repeat_of_id IS NOT NULL OR o.project_id <> t.project_id
        OR o.response_a_id <> t.response_a_id
        OR COALESCE(o.response_b_id, 0) <> COALESCE(t.response_b_id, 0)
        """,
        "task:{id}",
        "it is no copy of task:{repeat_of_id}.",
    ),
    Question(
        """
        SELECT t.repeat_of_id, a.annotator_id, COUNT(*) AS n FROM labelhub_task t
        JOIN labelhub_assignment a ON a.task_id = t.id
        WHERE t.repeat_of_id IS NOT NULL
        GROUP BY t.repeat_of_id, a.annotator_id HAVING COUNT(*) > 1
        """,
        "task:{repeat_of_id}",
        "user:{annotator_id} was shown it again {n} times.",
    ),
    Question(
        """
        SELECT t.id, COUNT(a.id) AS n FROM labelhub_task t
        LEFT JOIN labelhub_assignment a ON a.task_id = t.id
        WHERE t.status = 'probe' GROUP BY t.id HAVING COUNT(a.id) <> 1
        """,
        "task:{id}",
        "it is a probe for one person, and {n} have it.",
    ),
    Question(
        """
        SELECT a.id FROM labelhub_assignment a
        JOIN labelhub_task t ON t.id = a.task_id
        JOIN labelhub_assignment first
        ON first.task_id = t.repeat_of_id AND first.annotator_id = a.annotator_id
        WHERE t.response_b_id IS NOT NULL AND a.swapped = first.swapped
        """,
        "assignment:{id}",
        "it is a repeat, and its sides are those of the first time.",
    ),
    Question(
        """
        SELECT t.id, t.status FROM labelhub_task t
        LEFT JOIN labelhub_goldanswer g ON g.task_id = t.id
        WHERE (t.status = 'gold' AND g.id IS NULL)
        OR (t.status IN ('open', 'done') AND g.id IS NOT NULL)
        """,
        "task:{id}",
        "it is {status}, and its gold answer says otherwise.",
    ),
)

# --- Imports and guidelines ---------------------------------------------------

GO_ON = "Press Start again on its page, or give the same import command again."


def _imported(name: str) -> Question:
    """What an import says it made; removed, it must have left nothing."""
    table = f"labelhub_{name.removesuffix('s')}"
    return Question(
        f"""
        SELECT id, state, says, counted FROM (
            SELECT b.id, b.state,
            CASE WHEN b.state = 'removed' THEN 0
                 ELSE CAST(b.counts ->> '{name}' AS integer) END AS says,
            (SELECT COUNT(*) FROM {table} r WHERE r.batch_id = b.id) AS counted
            FROM labelhub_importbatch b WHERE b.state IN ('complete', 'removed')
        ) found WHERE says <> counted ORDER BY id
        """,  # noqa: S608
        "import:{id}",
        f"it is {{state}} and speaks of {{says}} {name}, counted {{counted}}.",
    )


def _told(state: str, verb: str) -> Question:
    """An import's way is in the audit trail, each step once."""
    return Question(
        f"""
        SELECT b.id, b.state, COUNT(e.id) AS n FROM labelhub_importbatch b
        LEFT JOIN labelhub_event e ON e.project_id = b.project_id
        AND e.verb = 'import.{verb}'
        AND e.subject = 'import:' || CAST(b.id AS varchar(20))
        WHERE b.state IN ({state}) GROUP BY b.id, b.state HAVING COUNT(e.id) <> 1
        """,  # noqa: S608
        "import:{id}",
        f"it is {{state}}, and the events tell {{n}} times that it was {verb}.",
    )


IMPORTS = (
    *map(_imported, ("prompts", "responses", "tasks", "judgments")),
    _told("'waiting', 'importing', 'complete', 'failed', 'removed'", "opened"),
    _told("'complete'", "completed"),
    _told("'removed'", "removed"),
    Question(
        """
        SELECT id, n_read, n_rows FROM labelhub_importbatch
        WHERE state = 'complete' AND (n_read <> n_rows OR finished_at IS NULL)
        """,
        "import:{id}",
        "it is complete with {n_read} of {n_rows} rows read, or has no end.",
    ),
    Question(
        """
        SELECT t.id, t.batch_id FROM labelhub_task t
        JOIN labelhub_importbatch b ON b.id = t.batch_id
        WHERE t.status = 'loading' AND b.state = 'complete'
        """,
        "task:{id}",
        "it waits for import:{batch_id}, which is complete.",
    ),
    Question(
        """
        SELECT t.id FROM labelhub_task t JOIN labelhub_prompt p ON p.id = t.prompt_id
        JOIN labelhub_response a ON a.id = t.response_a_id
        LEFT JOIN labelhub_response b ON b.id = t.response_b_id
        WHERE p.project_id <> t.project_id OR a.prompt_id <> t.prompt_id
        OR b.prompt_id <> t.prompt_id
        """,
        "task:{id}",
        "its prompt is not in its project, or its responses answer another one.",
    ),
    Question(
        """
        SELECT project_id, COUNT(*) AS n, MAX(version) AS last FROM labelhub_guideline
        GROUP BY project_id HAVING MIN(version) <> 1 OR MAX(version) <> COUNT(*)
        """,
        "project:{project_id}",
        "its {n} guidelines end with version {last}.",
    ),
)


@register
def labelling() -> Iterator[Problem]:
    for question in (*COUNTERS, *QUEUE, *JUDGMENTS, *PROBES, *IMPORTS):
        yield from question.problems()


@register
def silent_imports() -> Iterator[Problem]:
    """Whoever imported them has died, or nobody has begun."""
    fields: tuple[Any, ...] = ("pk", "state")
    for pk, state in ImportBatch.objects.silent().values_list(*fields):
        sentence = f"it is {state}, and nothing was heard of it for a minute."
        yield Problem(f"import:{pk}", sentence, GO_ON)
