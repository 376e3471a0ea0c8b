"""Errors on the way from a key that is pressed to a frozen dataset and a run page."""

from __future__ import annotations

from benchmarks.mutation import one

VERDICTS = "labelhub/verdicts.py"
QUEUE = "labelhub/queue.py"
QUEUE_SQL = "labelhub/queue_sql.py"
JUDGING = "labelhub/views/judging.py"
VICUNA = "labelhub/importing/formats/vicuna.py"
ESTIMATE = "labelhub/quality/estimate.py"
RECIPES = "training/recipes.py"
TALLYING = "training/tallying.py"
STATISTICS = "training/statistics.py"
HEADLINE = "training/headline.py"
TEST_VERDICTS = "tests/labelhub/test_verdicts.py"
TEST_QUEUE = "tests/labelhub/test_queue.py"
TEST_JUDGING = "tests/labelhub/test_judging.py"
TEST_AGREEMENT = "tests/labelhub/quality/test_agreement.py"
TEST_VICUNA = "tests/labelhub/test_import_vicuna.py"
TEST_RECIPES = "tests/training/test_recipes.py"
TEST_EXPORTING = "tests/training/test_exporting.py"
TEST_RUN_PAGES = "tests/training/test_run_pages.py"

JUDGED = (
    one(
        "sides-swapped",
        "the response that was not meant wins",
        VERDICTS,
        "return Answer(_SIDES[side][swapped], strength)",
        "return Answer(_SIDES[side][not swapped], strength)",
        TEST_VERDICTS,
    ),
    one(
        "history-mirrored",
        "the history says left where right was pressed",
        VERDICTS,
        "if sides[swapped] == verdict:",
        "if sides[not swapped] == verdict:",
        TEST_VERDICTS,
    ),
    one(
        "left-stored-wrong",
        "position bias is measured for the other side",
        VERDICTS,
        "return Side.B if swapped else Side.A",
        "return Side.A if swapped else Side.B",
        TEST_QUEUE,
    ),
    one(
        "page-not-swapped",
        "the page shows the responses as they lie and the verdict is turned round",
        JUDGING,
        "left, right = right, left",
        "left, right = left, right",
        TEST_JUDGING,
    ),
    one(
        "sides-not-balanced",
        "the second person sees the same side as the first",
        QUEUE_SQL,
        "ELSE count(*) FILTER (WHERE swapped) * 2 < count(*)",
        "ELSE count(*) FILTER (WHERE swapped) * 2 > count(*)",
        TEST_QUEUE,
    ),
    one(
        "revision-ignored",
        "an answer that was corrected stays as it was",
        QUEUE,
        "return _revise(assignment, standing, answer, note)",
        "return standing",
        TEST_QUEUE,
    ),
    one(
        "score-inverted",
        "the worse score wins in reviews that are imported",
        VICUNA,
        'return "a" if first > second else "b"',
        'return "b" if first > second else "a"',
        TEST_VICUNA,
    ),
    one(
        "wilson-swapped",
        "the ends of an interval change places",
        ESTIMATE,
        "return max(0.0, middle - half), min(1.0, middle + half)",
        "return min(1.0, middle + half), max(0.0, middle - half)",
        TEST_AGREEMENT,
    ),
    one(
        "prompts-as-if-independent",
        "intervals are too narrow where answers to one prompt are alike",
        ESTIMATE,
        "n_effective = min(n, p * (1 - p) / variance) if variance > 0 else float(k)",
        "n_effective = float(n)",
        TEST_AGREEMENT,
    ),
    one(
        "alpha-without-chance",
        "α is the plain agreement",
        "labelhub/quality/agreement.py",
        "return 1 - (n - 1) * disagreement / by_chance",
        "return 1 - disagreement / n",
        TEST_AGREEMENT,
    ),
)

FROZEN = (
    one(
        "verdict-inverted",
        "the loser is chosen",
        RECIPES,
        'Shape.PAIRS: {"a": (Draft("a", "b"),), "b": (Draft("b", "a"),)},',
        'Shape.PAIRS: {"a": (Draft("b", "a"),), "b": (Draft("a", "b"),)},',
        TEST_RECIPES,
    ),
    one(
        "labels-inverted",
        "kto learns from bad as good",
        RECIPES,
        '"a": (Draft("a", label=True), Draft("b", label=False)),',
        '"a": (Draft("a", label=False), Draft("b", label=True)),',
        TEST_RECIPES,
    ),
    one(
        "ties-as-wins",
        "a tie makes a a winner",
        RECIPES,
        'Shape.PAIRS: {"a": (Draft("a", "b"),),',
        'Shape.PAIRS: {"tie": (Draft("a", "b"),), "a": (Draft("a", "b"),),',
        TEST_RECIPES,
    ),
    one(
        "half-is-majority",
        "a split jury decides by the order of its votes",
        RECIPES,
        "if 2 * votes_for <= n_votes:",
        "if 2 * votes_for < n_votes:",
        TEST_RECIPES,
    ),
    one(
        "models-overrule-people",
        "the verdict of a judge model stands before that of people",
        RECIPES,
        "PRECEDENCE = (Source.HUMAN, Source.IMPORTED, Source.FEEDBACK, Source.MODEL)",
        "PRECEDENCE = (Source.MODEL, Source.IMPORTED, Source.FEEDBACK, Source.HUMAN)",
        TEST_RECIPES,
    ),
    one(
        "every-revision-votes",
        "an answer that was taken back still votes",
        TALLYING,
        "Judgment.objects.standing()\n            .filter(project=project)\n"
        "            .exclude(",
        "Judgment.objects\n            .filter(project=project)\n            .exclude(",
        TEST_EXPORTING,
    ),
    one(
        "surplus-votes",
        "who was late decides a verdict",
        TALLYING,
        "strength, '')) FILTER (WHERE NOT surplus),\"\n"
        '            " group_concat(id) FILTER (WHERE NOT surplus)"',
        'strength, \'\')),"\n            " group_concat(id)"',
        TEST_EXPORTING,
    ),
    one(
        "texts-swapped",
        "chosen and rejected change places when the texts are fetched",
        TALLYING,
        'columns["chosen"] = [texts[pk] for pk in first]\n'
        '                columns["rejected"] = [texts[pk] for pk in second]',
        'columns["chosen"] = [texts[pk] for pk in second]\n'
        '                columns["rejected"] = [texts[pk] for pk in first]',
        TEST_EXPORTING,
    ),
    one(
        "split-by-row",
        "a prompt is trained on and held out",
        TALLYING,
        'WHERE prompt.is_eval = ? ORDER BY row.key, row.rowid"',
        'WHERE (row.rowid % 2 = 0) = ? ORDER BY row.key, row.rowid"',
        TEST_EXPORTING,
    ),
    one(
        "demonstration-judged-bad",
        "sft imitates a demonstration that people judged bad",
        TALLYING,
        'if outcome.verdict in ("bad", "both_bad"):',
        'if outcome.verdict in ("bads", "both_bad"):',
        TEST_EXPORTING,
    ),
    one(
        "winner-and-loser-swapped",
        "the table of wins names the loser as winner",
        TALLYING,
        "winner, loser = names[won], names[1 - won]",
        "loser, winner = names[won], names[1 - won]",
        TEST_EXPORTING,
    ),
    one(
        "shorter-won",
        "the length bias is that of shorter responses",
        TALLYING,
        "longer_won = lengths[won] > lengths[1 - won]",
        "longer_won = lengths[won] < lengths[1 - won]",
        TEST_EXPORTING,
    ),
    one(
        "right-won",
        "the position bias is that of the right side",
        STATISTICS,
        "judgment.verdict = shown_left FROM",
        "judgment.verdict <> shown_left FROM",
        TEST_EXPORTING,
    ),
    one(
        "training-shown-as-held-out",
        "the run page shows accuracy on rows that were trained on",
        HEADLINE,
        '"dpo": "eval_rewards/accuracies",',
        '"dpo": "rewards/accuracies",',
        TEST_RUN_PAGES,
        "tests/training/test_run_rows.py",
    ),
    one(
        "beaten-model-praised",
        "a model that is worse than a rule of thumb raises no concern",
        HEADLINE,
        'if not best or measured["accuracy"] > rules[best]:',
        'if not best or measured["accuracy"] < rules[best]:',
        TEST_RUN_PAGES,
    ),
)
