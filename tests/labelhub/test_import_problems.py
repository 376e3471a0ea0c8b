"""Bad files: one sentence with the place and the way out, and nothing is written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from labelhub.importing import ImportOptions, ImportRefused, check_files, import_files
from labelhub.importing.files import ROW_LIMIT
from labelhub.models import Event, ImportBatch, Prompt, Response, Task
from tests.labelhub.test_import_formats import write_rows

PAIR = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}
LINE = json.dumps(PAIR)


def refused(project, *paths: Path, **options) -> str:
    """The sentence; and nothing at all is in the database."""
    with pytest.raises(ImportRefused) as caught:
        import_files(project, paths, ImportOptions(**options))
    for model in (ImportBatch, Prompt, Response, Task, Event):
        assert not model.objects.exists()
    return str(caught.value)


def _line(**changes: object) -> str:
    return json.dumps(PAIR | changes)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ('{"prompt": "Why?", "chosen"', "x.jsonl, line 10: not JSON"),
        ("[1]", "line 10: not a JSON object: '[1]'"),
        (_line(chosen=None), "chosen must be text or a list of messages, not empty"),
        (_line(chosen=5), "chosen must be text or a list of messages, not 5"),
        (_line(prompt=""), "line 10: prompt is empty"),
        (_line(prompt="  \n"), "prompt is empty"),
        (_line(prompt=[]), "prompt is an empty conversation"),
        (_line(chosen="a\0b"), "chosen holds a NUL character (at 1), which PostgreSQL"),
        (_line(rejected="\ud83d!"), "rejected holds half of a surrogate pair (\\ud83d"),
        (f'{{"n": {"9" * 5000}}}', "line 10: not JSON that can be read: a number in"),
        (_line(prompt=[{"role": "system", "content": "x"}]), "prompt has no user turn"),
        (
            _line(prompt=[{"role": "wizard", "content": "x"}]),
            "prompt[0] has the unknown role 'wizard'",
        ),
        (_line(prompt=["Why?"]), "prompt[0] must be a message, not 'Why?'"),
        (
            _line(prompt=[{"role": "user", "content": [{"type": "image"}]}]),
            "prompt[0] holds 'image'; only text can be labelled",
        ),
        (
            _line(chosen=[{"role": "user", "content": "x"}]),
            "chosen must be an assistant turn, not 'user'",
        ),
        ('{"prompt": "x", "chosen": "y"}', "the column 'rejected' is missing"),
        (
            '{"prompt": "x", "prompt": "z", "chosen": "y", "rejected": "n"}',
            "the key 'prompt' is there twice",
        ),
        ('{"prompt": NaN, "chosen": "y", "rejected": "n"}', "NaN is not a JSON number"),
        (_line(prompt_id="x" * 201), "prompt_id is 201 characters long; 200 is"),
        (_line(prompt_id=[1]), "prompt_id must be text or a number, not a list"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named(project, tmp_path, bad, sentence):
    """Nine lines of ten are good: 90 % of a file does not make an import."""
    path = tmp_path / "x.jsonl"
    path.write_text(f"{LINE}\n" * 9 + bad + "\n" + LINE)
    said = refused(project, path)
    assert sentence in said
    assert "line 10:" in said
    assert said.startswith("1 problem; nothing was imported.")


def test_the_first_twenty_problems_are_listed_of_all(project, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f"{LINE}\n" + "{}\n" * 1234)
    said = refused(project, path)
    assert said.startswith("1,234 problems; nothing was imported.")
    assert "line 2:" in said
    assert "line 21:" in said
    assert "line 22:" not in said
    assert said.endswith("… and 1,214 more")


def test_an_empty_file_and_one_without_rows(project, tmp_path):
    for name, content, sentence in (
        ("a.jsonl", "", "a.jsonl: the file is empty"),
        ("b.jsonl", "\n\n", "b.jsonl holds no rows"),
        ("c.json", "[]", "c.json holds no rows"),
        ("d.csv", "prompt,chosen,rejected\n", "d.csv holds no rows"),
    ):
        (tmp_path / name).write_text(content)
        assert sentence in refused(project, tmp_path / name)


def test_a_file_that_is_not_there(project, tmp_path):
    said = refused(project, tmp_path / "no.jsonl")
    assert said.endswith("no.jsonl cannot be read: No such file or directory.")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(LINE.encode(), mtime=0), "is gzip-compressed; unpack it first"),
        (LINE.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04....", "a ZIP or Excel file; unpack it or export it as CSV"),
        (b"PAR1 and nothing else", "the Parquet file is damaged"),
    ],
)
def test_other_kinds_of_files_are_told_apart(project, tmp_path, content, sentence):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert sentence in refused(project, path)


def test_a_wrong_encoding_names_the_line_and_the_byte(project, tmp_path):
    path = tmp_path / "x.jsonl"
    latin = json.dumps(PAIR | {"chosen": "très"}, ensure_ascii=False).encode("latin-1")
    path.write_bytes(f"{LINE}\n".encode() * 3 + latin)
    said = refused(project, path)
    assert "line 4: byte 33 of the line is not UTF-8" in said


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.9, 0.999])
def test_a_truncated_json_array_names_the_row(project, tmp_path, cut):
    path = write_rows(
        tmp_path / "x.json", *[PAIR | {"prompt": f"{n}"} for n in range(99)]
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    said = refused(project, path)
    assert "it was cut off" in said
    assert f"row {int(99 * cut) + 1}" in said or f"row {int(99 * cut) + 2}" in said


def test_garbage_in_a_json_array_names_the_row(project, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(f"[{LINE}, {LINE}, oops, {LINE}]")
    assert "row 3: not JSON" in refused(project, path)


@pytest.mark.parametrize("bad", [r'"\u0000"', r'"\ud83d"', '"\\x"', "NaN", "9" * 5000])
def test_a_json_array_hides_no_bad_character(project, tmp_path, bad):
    path = tmp_path / "x.json"
    path.write_text(f'[{LINE}, {{"prompt": "x", "chosen": {bad}, "rejected": "n"}}]')
    assert "row 2" in refused(project, path)


def test_text_that_only_looks_like_messages_stays_text(project, tmp_path):
    for tail in ("[" * 100_000, "9" * 5000 + "}]"):
        path = write_rows(tmp_path / "x.jsonl", PAIR | {"prompt": '[{"role":' + tail})
        assert check_files(project, [path], ImportOptions()).counts["tasks"] == 1


@pytest.mark.parametrize("value", [1, True, "x"])
def test_a_column_name_that_no_database_takes_is_named(project, tmp_path, value):
    row = {"prompt_id": "1", "prompt": "Why?", "topic\0": value}
    path = write_rows(tmp_path / "x.jsonl", row)
    assert "a column name holds a NUL character" in refused(project, path)


def test_a_damaged_parquet_file(project, tmp_path):
    path = write_rows(
        tmp_path / "x.parquet", *[PAIR | {"chosen": "y" * n} for n in range(999)]
    )
    whole = bytearray(path.read_bytes())
    whole[40:400] = b"\xff" * 360
    path.write_bytes(bytes(whole))
    assert "x.parquet" in refused(project, path)


def test_csv_rows_of_the_wrong_length_and_open_quotes(project, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt,chosen,rejected\na,b,c\nd,e\nf,g,h,i\n")
    said = refused(project, path)
    assert "line 3: 2 values for 3 columns" in said
    assert "line 4: 4 values for 3 columns" in said

    path.write_text('prompt,chosen,rejected\na,b,c\nd,"e,f\n')
    assert "not CSV" in refused(project, path)


def test_long_responses_pass_and_endless_lines_do_not(project, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(_line(chosen="y" * ROW_LIMIT))
    assert "line 1: the row is longer than 16 MB" in refused(project, path)

    array = tmp_path / "y.json"
    array.write_text(f"[{_line(chosen='y' * (ROW_LIMIT + 2**21))}]")
    assert "row 1: the row is longer than 16 MB" in refused(project, array)

    path.write_text(_line(chosen="word " * 20_000, rejected="x" * 100_000))
    assert import_files(project, [path], ImportOptions()).counts["tasks"] == 1


def test_an_empty_response_is_counted_not_refused(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", PAIR | {"rejected": ""})
    batch = import_files(project, [path], ImportOptions())
    assert batch.counts["empty_responses"] == 1
    assert batch.counts["tasks"] == 1


def test_what_differs_before_the_last_turn_is_left_out_and_counted(project, tmp_path):
    def talk(first: str, last: str) -> list[dict[str, str]]:
        roles = ("user", "assistant", "user", "assistant")
        said = ("Hi", first, "More?", last)
        return [
            {"role": role, "content": content}
            for role, content in zip(roles, said, strict=True)
        ]

    rows = [
        {"chosen": talk("Hello", "yes"), "rejected": talk("Hello", "no")},
        {"chosen": talk("Hello", "yes"), "rejected": talk("Ho", "no")},
    ]
    path = write_rows(tmp_path / "x.jsonl", *rows)
    report = check_files(project, [path], ImportOptions())
    reason = "chosen and rejected differ before their last turn"
    assert report.left_out_places == {reason: ["x.jsonl, line 2"]}
    batch = import_files(project, [path], ImportOptions())
    assert batch.counts["left_out"] == {reason: 1}
    assert (batch.n_rows, batch.counts["tasks"]) == (2, 1)


# --- references -------------------------------------------------------------

PROMPTS = [{"id": f"p{n}", "prompt": f"{n}?"} for n in range(2)]
RESPONSES = [
    {"id": f"r{n}{m}", "prompt_id": f"p{n}", "model": m, "response": f"{n} {m}"}
    for n in range(2)
    for m in "xy"
]
VERDICT = {"prompt_id": "p0", "response_a": "r0x", "response_b": "r0y", "verdict": "a"}


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        (
            "prompts",
            [*PROMPTS, PROMPTS[0]],
            "line 3: the id 'p0' is there twice",
        ),
        (
            "responses",
            [*RESPONSES, RESPONSES[0]],
            "line 5: the id 'r0x' is there twice",
        ),
        (
            "responses",
            [RESPONSES[0] | {"prompt_id": "p9"}],
            "line 1: the prompt 'p9' is in none of the files, nor in the project",
        ),
        ("responses", [RESPONSES[0] | {"prompt_id": ""}], "line 1: prompt_id is empty"),
        (
            "verdicts",
            [VERDICT, VERDICT | {"response_b": "r9z"}],
            "line 2: the response 'r9z' is in none of the files, nor in the project",
        ),
        (
            "verdicts",
            [VERDICT | {"response_b": "r1x"}],
            "the responses 'r0x' and 'r1x' answer different prompts",
        ),
        (
            "verdicts",
            [VERDICT | {"prompt_id": "p1"}],
            "the response 'r0x' answers the prompt 'p0', not 'p1'",
        ),
        ("verdicts", [VERDICT | {"response_b": "r0x"}], "are both 'r0x'"),
        (
            "verdicts",
            [VERDICT | {"verdict": "left"}],
            "verdict must be a or b or tie or both_bad, not 'left'",
        ),
    ],
)
def test_a_reference_that_does_not_hold_is_named(
    project, tmp_path, name, rows, sentence
):
    files = {"prompts": PROMPTS, "responses": RESPONSES, "verdicts": [VERDICT]}
    paths = [
        write_rows(tmp_path / f"{stem}.jsonl", *content)
        for stem, content in (files | {name: rows}).items()
    ]
    assert sentence in refused(project, *paths)


# --- options ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"format": "vicunna"}, "--format 'vicunna' is unknown. Did you mean vicuna?"),
        (
            {"map": {"prompt": "chosn"}},
            "the target 'chosn' is unknown. Did you",
        ),
        ({"map": {"a": "prompt", "b": "prompt"}}, "names the target 'prompt' twice"),
        ({"pairs": "al"}, "--pairs 'al' is unknown. Did you mean all?"),
        ({"judge": "x", "judge_kind": "alien"}, "--judge-kind 'alien' is unknown"),
        ({"judge_kind": "model"}, "--judge-kind model needs --judge"),
        ({"judge": "x" * 201}, "longer than 200 characters"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, sentence):
    with pytest.raises(ImportRefused) as caught:
        ImportOptions(**options)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"map": {"promt": "system"}},
            "no file has a column 'promt'. Did you mean prompt?",
        ),
        ({"map": {"chosen": "prompt"}}, "x.jsonl has a column 'prompt' of its own"),
        ({"format": "alpaca"}, "which fit not the format 'alpaca'"),
        ({"pairs": "none"}, "--pairs none would leave the verdicts"),
        ({"pairs": "x:y"}, "--pairs x:y: there are no responses of 'x'"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(
    project, tmp_path, options, sentence
):
    path = write_rows(tmp_path / "x.jsonl", PAIR)
    assert sentence in refused(project, path, **options)


def test_columns_that_fit_no_format_are_listed_with_the_closest(project, tmp_path):
    path = write_rows(tmp_path / "x.csv", {"question": "Why?", "chosen": "yes"})
    said = refused(project, path)
    assert "x.csv has the columns chosen, question, which fit no format." in said
    assert "which also needs rejected: name columns with --map FROM=TO" in said


def test_reviewed_needs_verdicts(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", {"prompt": "Why?", "responses": ["a", "b"]})
    assert "the files hold no verdicts" in refused(project, path, pairs="reviewed")


def test_a_dry_run_counts_and_writes_nothing(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", PAIR, PAIR, PAIR | {"chosen": "no"})
    report = check_files(project, [path], ImportOptions())
    assert report.counts == {
        "prompts": 1,
        "responses": 2,
        "tasks": 1,
        "judgments": 1,
        "identical_pairs": 1,
        "empty_responses": 0,
    }
    assert report.examples[0].answers[0].text == "yes"
    for model in (ImportBatch, Prompt, Response, Task, Event):
        assert not model.objects.exists()
