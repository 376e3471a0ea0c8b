"""Rows are found, read and accounted for; none disappears without a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.core.conftest import make_demonstrations, make_pairs, write_jsonl
from training.core.config import RLHFAlgorithm, RLHFConfig
from training.core.data.columns import detect_columns
from training.core.data.ledger import Ledger
from training.core.data.lint import demonstrations, draw, hold_out, preferences
from training.core.data.loaders import load_source, read_rows
from training.core.data.text import as_messages, split_shared_prompt
from training.core.errors import RLHFConfigurationError, RLHFDatasetError, RLHFError

DPO, SFT = RLHFAlgorithm.DPO, RLHFAlgorithm.SFT
REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data" / "preference-demos"


def source_of(path, algorithm="dpo", **changes):
    return load_source(
        RLHFConfig.from_dict(
            {
                "job_name": "test",
                "algorithm": algorithm,
                "base_model": "model",
                "dataset_path": str(path),
                "output_dir": "run",
                **changes,
            }
        )
    )


def lint(rows, algorithm=DPO, has_template=True, **mapping):
    """The rows that are kept, and the ledger."""
    available = list(dict.fromkeys(name for row in rows for name in row))
    columns = detect_columns(available, mapping, algorithm)
    ledger = Ledger(len(rows))
    normalise = demonstrations if algorithm is SFT else preferences
    kept = normalise(rows, columns, ledger, has_template=has_template)
    assert len(kept) == ledger.kept
    return kept, ledger


# --- Reading ---


def rows_in(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return read_rows(path)


def test_every_format_gives_the_same_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": "a", "completion": "b, c"}, {"prompt": "é", "completion": "\n"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet") == rows
    assert rows_in(tmp_path, "rows.json", json.dumps(rows)) == rows
    lines = "\n\n".join(map(json.dumps, rows))
    assert rows_in(tmp_path, "rows.jsonl", lines) == rows
    table = 'prompt,completion\na,"b, c"\né,"\n"\n'
    assert rows_in(tmp_path, "rows.csv", table) == rows
    assert rows_in(tmp_path, "rows.csv", "\ufeff" + table) == rows


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": ', "line 2 is no JSON"),
        ("a.jsonl", "[1]\n", "line 1 is no object"),
        ("a.json", '{"a": 1}', "is no list"),
        ("a.json", '[{"a": 1}, 2]', "entry 2"),
        ("a.json", "[", "is no JSON"),
        ("a.csv", "a,b\n1,2\n3\n", "line 3"),
        ("a.csv", "a,b\n1,2,3\n", "line 2"),
        ("a.csv", 'a,b\n1,"2\n', "line"),
        ("a.parquet", "PAR1", "Parquet"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path, name, text, told):
    with pytest.raises(RLHFDatasetError, match=told) as caught:
        rows_in(tmp_path, name, text)
    assert caught.value.code == "RLHF024"


def test_a_file_that_is_not_utf8_is_damaged(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(RLHFDatasetError, match="not UTF-8 at byte 7") as caught:
        read_rows(tmp_path / "a.jsonl")
    assert caught.value.code == "RLHF024"


def test_a_folder_holds_splits(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", make_pairs(3))
    write_jsonl(tmp_path / "eval.jsonl", make_pairs(2))
    source = source_of(tmp_path)
    assert (len(source.train), len(source.eval)) == (3, 2)
    assert source.description == "train.jsonl, eval.jsonl"


def test_held_out_rows_may_lie_elsewhere(tmp_path):
    train = write_jsonl(tmp_path / "a.jsonl", make_pairs(3))
    held_out = write_jsonl(tmp_path / "b.jsonl", make_pairs(2))
    source = source_of(train, eval_dataset_path=str(held_out))
    assert (len(source.train), len(source.eval)) == (3, 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_split": "test"}, "no test as .parquet"),
        ({"eval_split": "dev"}, "no file for eval_split dev"),
        ({"eval_dataset_path": "/no/such"}, "no file or folder /no/such"),
    ],
)
def test_a_missing_split_is_told_with_what_is_there(tmp_path, changes, told):
    write_jsonl(tmp_path / "train.jsonl", make_pairs(3))
    with pytest.raises(RLHFDatasetError, match=told) as caught:
        source_of(tmp_path, **changes)
    assert caught.value.code == "RLHF020"


def test_the_hub_is_asked_for_the_splits_it_has(monkeypatch):
    import datasets

    asked = []

    def load(repository, *, split, revision):
        asked.append((repository, split, revision))
        return datasets.Dataset.from_list(make_pairs(2))

    splits = ["train_sft", "train_prefs", "test_prefs"]
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *a, **k: splits)
    monkeypatch.setattr(datasets, "load_dataset", load)
    source = source_of("org/pairs@v1")
    assert asked == [
        ("org/pairs", "train_prefs", "v1"),
        ("org/pairs", "test_prefs", "v1"),
    ]
    assert (len(source.train), len(source.eval)) == (2, 2)
    with pytest.raises(RLHFDatasetError, match="it has train_sft, train_prefs"):
        source_of("org/pairs@v1", train_split="more")


# --- Columns ---


@pytest.mark.parametrize(
    ("available", "algorithm", "described"),
    [
        (
            ["prompt", "chosen", "rejected"],
            DPO,
            "preference: prompt, chosen, rejected",
        ),
        (["chosen", "rejected", "id"], DPO, "preference: chosen, rejected"),
        (
            ["question", "accepted", "dispreferred"],
            DPO,
            "preference: prompt (column question), chosen (column accepted), "
            "rejected (column dispreferred)",
        ),
        (
            ["conversations", "chosen", "rejected"],
            DPO,
            "preference: prompt (column conversations), chosen, rejected",
        ),
        (
            ["prompt", "chosen", "rejected", "margin"],
            RLHFAlgorithm.REWARD_MODEL,
            "preference: prompt, chosen, rejected, margin",
        ),
        (["prompt", "messages"], SFT, "messages: messages"),
        (["conversations"], SFT, "messages: messages (column conversations)"),
        (
            ["instruction", "input", "output"],
            SFT,
            "prompt_completion: prompt (column instruction), completion (column "
            "output), context (column input)",
        ),
        (
            ["prompt", "completion", "label"],
            SFT,
            "prompt_completion: prompt, completion, label",
        ),
        (["text"], SFT, "text: text"),
    ],
)
def test_columns_are_detected(available, algorithm, described):
    assert detect_columns(available, {}, algorithm).describe() == described


def test_a_mapping_overrules_detection():
    found = detect_columns(
        ["prompt", "chosen", "rejected"], {"completion": "chosen"}, SFT
    )
    assert found.names == {"prompt": "prompt", "completion": "chosen"}


@pytest.mark.parametrize(
    ("available", "mapping", "algorithm", "told"),
    [
        (["prompt", "text"], {}, DPO, "the data has prompt, text"),
        (["a"], {}, SFT, "sft needs messages"),
        (["prompt", "chosen", "rejected"], {}, SFT, "columns: {completion: chosen}"),
        (["a"], {"prompt": "b"}, SFT, "maps prompt to b"),
    ],
)
def test_missing_columns_are_told_with_the_way_out(available, mapping, algorithm, told):
    with pytest.raises(RLHFDatasetError) as caught:
        detect_columns(available, mapping, algorithm)
    assert caught.value.code == "RLHF022"
    assert told in caught.value.message


def test_a_mapping_of_an_unknown_column_names_the_nearest():
    with pytest.raises(RLHFConfigurationError, match="did you mean prompt"):
        detect_columns(["a"], {"promt": "a"}, SFT)


# --- Texts ---


@pytest.mark.parametrize(
    ("cell", "messages"),
    [
        ("Hi", [("user", "Hi")]),
        ({"from": "gpt", "value": "Hi"}, [("assistant", "Hi")]),
        ([{"role": "Human", "content": "Hi"}], [("user", "Hi")]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}],
            [("user", "ab")],
        ),
        ([{"from": "observation", "value": "4"}], [("tool", "4")]),
        ([{"role": "system", "content": "Be brief."}], [("system", "Be brief.")]),
        ([{"role": "developer", "content": "Hm."}], [("system", "Hm.")]),
    ],
)
def test_cells_become_messages(cell, messages):
    expected = [{"role": role, "content": content} for role, content in messages]
    assert as_messages(cell, "user") == expected


@pytest.mark.parametrize(
    "cell",
    [
        3,
        ["Hi"],
        [{"role": "narrator", "content": "Hi"}],
        [{"content": "Hi"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image"}]}],
    ],
)
def test_cells_that_say_nothing_known_are_refused(cell):
    with pytest.raises(ValueError, match=" "):
        as_messages(cell, "user")


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("H: Hi A: Hello", "H: Hi A: Hey", "H: Hi A:"),
        ("H: Hi A: Yes", "H: Hi A: No way", "H: Hi A:"),
        ("yes", "no", ""),
    ],
)
def test_a_shared_beginning_is_the_prompt(chosen, rejected, prompt):
    found = split_shared_prompt(chosen, rejected)
    assert found[0] == prompt
    assert (found[0] + found[1], found[0] + found[2]) == (chosen, rejected)


# --- The ledger ---

SAY = {"role": "assistant", "content": "yes"}
ASK = {"role": "user", "content": "well?"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": None}, "missing_value"),
        ({"prompt": None}, "missing_value"),
        ({"chosen": " "}, "empty_completion"),
        ({"prompt": " "}, "empty_prompt"),
        ({"chosen": "no"}, "chosen_equals_rejected"),
        ({"chosen": [{"role": "narrator", "content": "a"}]}, "malformed_messages"),
        ({"chosen": [ASK]}, "no_assistant_turn"),
        ({"prompt": [ASK, SAY]}, "prompt_ends_with_assistant"),
        ({"chosen": [SAY, ASK]}, "no_assistant_turn"),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_counted(row, reason):
    good = {"prompt": "well?", "chosen": "yes", "rejected": "no"}
    kept, ledger = lint([good, {**good, **row}])
    assert [pair.number for pair in kept] == [0]
    assert ledger.to_dict()["dropped"] == {reason: 1}
    assert ledger.to_dict()["examples"] == {reason: [1]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": None}, "missing_value"),
        ({"messages": [ASK]}, "no_assistant_turn"),
        ({"messages": [ASK, {**SAY, "content": ""}]}, "empty_completion"),
        ({"messages": [ASK, {"role": "x"}]}, "malformed_messages"),
        ({"label": False}, "labelled_bad"),
        ({"label": "bad"}, "labelled_bad"),
    ],
)
def test_a_demonstration_that_cannot_be_imitated_is_counted(row, reason):
    good = {"messages": [ASK, SAY], "label": True}
    kept, ledger = lint([{**good, **row}, good], SFT)
    assert [row.number for row in kept] == [1]
    assert ledger.to_dict()["dropped"] == {reason: 1}


def test_contradictions_are_kept_and_noted():
    pair = {"prompt": "well?", "chosen": "yes", "rejected": "no"}
    _, ledger = lint([pair, {**pair, "chosen": "no", "rejected": "yes"}])
    assert ledger.notes == {"contradicted": 1}
    assert ledger.kept == 2


def test_plain_pairs_become_turns_where_there_is_a_template():
    pair = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
    [turns], _ = lint([pair])
    assert turns.prompt == [{"role": "user", "content": "2 + 2?"}]
    assert turns.chosen == [{"role": "assistant", "content": "4"}]
    [plain], _ = lint([pair], has_template=False)
    assert (plain.prompt, plain.chosen) == ("2 + 2?", "4")


def test_a_prompt_inside_both_sides_is_taken_out():
    pair = {
        "prompt": "well?",
        "chosen": [ASK, SAY],
        "rejected": [ASK, {**SAY, "content": "no"}],
    }
    [found], _ = lint([pair])
    assert (found.prompt, found.chosen) == ([ASK], [SAY])


def test_alpaca_gets_its_input_after_its_instruction():
    [row], _ = lint([{"instruction": "Add", "input": "1, 2", "output": "3"}], SFT)
    assert row.prompt == [{"role": "user", "content": "Add\n\n1, 2"}]


def test_prompts_are_held_out_whole_and_by_seed():
    rows, _ = lint(make_pairs(50) + make_pairs(50))
    train, held_out = hold_out(rows, 0.2, seed=1)
    assert len(held_out) == 20
    assert {row.group for row in train}.isdisjoint(row.group for row in held_out)
    reordered = hold_out(rows[::-1], 0.2, seed=1)[1]
    assert {row.group for row in reordered} == {row.group for row in held_out}
    assert hold_out(rows, 0.2, seed=2)[1] != held_out
    assert hold_out(rows, 0.0, seed=1) == (rows, [])
    assert hold_out(rows[:1], 0.2, seed=1) == (rows[:1], [])


def test_rows_that_are_not_drawn_are_counted():
    rows, ledger = lint(make_pairs(10))
    drawn = draw(rows, 4, 0, ledger)
    assert len(drawn) == ledger.kept == 4
    assert ledger.dropped == {"not_drawn": 6}
    assert draw(rows, 4, 0, Ledger(10)) == drawn


@pytest.mark.parametrize(
    ("name", "algorithm", "described", "used"),
    [
        ("dpo_en_demo.json", DPO, "preference: prompt (column conversations)", 300),
        ("kto_en_demo.json", SFT, "messages: messages, label", 150),
        ("alpaca_en_demo.json", SFT, "prompt_completion: prompt (column", 999),
    ],
)
def test_real_files_are_read_as_they_are(name, algorithm, described, used):
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real data is not at {REAL_DATA}")
    rows = read_rows(REAL_DATA / name)
    assert detect_columns(list(rows[0]), {}, algorithm).describe().startswith(described)
    _, ledger = lint(rows, algorithm)
    assert ledger.kept == used


# --- Tokens ---


@pytest.fixture(scope="module")
def encoder(tiny_model):
    from training.core.data.tokens import Encoder
    from training.core.models import load_tokenizer

    return Encoder(load_tokenizer(tiny_model))


LONG = "word " * 60


def odd_pairs():
    """Pairs of many lengths, so that each of TRL's silent rules applies to some."""
    rows = make_pairs(12)
    for place, row in enumerate(rows):
        if place % 4 == 1:
            row["prompt"][0]["content"] += LONG
        if place % 4 == 2:
            row["chosen"][0]["content"] += LONG
        if place % 4 == 3:
            row["rejected"][0]["content"] = row["chosen"][0]["content"] + LONG
            row["chosen"][0]["content"] += LONG + "end"
    return rows


def plain_pairs():
    return [
        {
            "prompt": row["prompt"][0]["content"] + " ",
            "chosen": row["chosen"][0]["content"],
            "rejected": row["rejected"][0]["content"],
        }
        for row in odd_pairs()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("make_rows", [odd_pairs, plain_pairs])
@pytest.mark.parametrize("algorithm", ["sft", "reward_model", "dpo"])
def test_our_ids_are_those_of_trl(algorithm, make_rows, encoder, tiny_model, tmp_path):
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from training.core.data import tokens

    rows = make_rows()
    common = {
        "output_dir": str(tmp_path),
        "max_length": 64,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
    }
    given = {"processing_class": encoder.tokenizer}
    causal = AutoModelForCausalLM.from_pretrained(tiny_model)
    plain = make_rows is plain_pairs
    kept, ledger = lint(rows, has_template=not plain)
    if algorithm == "sft":
        shown = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in rows]
        kept, ledger = lint(shown, SFT, has_template=not plain)
        ours = tokens.encode_demonstrations(kept, encoder, 64, ledger)
        theirs = trl.SFTTrainer(
            causal,
            args=trl.SFTConfig(**common),
            train_dataset=Dataset.from_list(shown),
            **given,
        ).train_dataset
        assert ledger.dropped["nothing_to_learn"] == 3
        assert ledger.notes["cut"] == 6
    elif algorithm == "reward_model":
        _, ours = tokens.encode_scored_pairs(kept, encoder, 64, ledger)
        model = AutoModelForSequenceClassification.from_pretrained(
            tiny_model, num_labels=1
        )
        theirs = trl.RewardTrainer(
            model,
            args=trl.RewardConfig(**common),
            train_dataset=Dataset.from_list(rows),
            **given,
        ).train_dataset
        assert ledger.dropped == {"too_long": 9}
    else:
        kept_rows, ours = tokens.encode_pairs(kept, encoder, 64, ledger)
        theirs = trl.DPOTrainer(
            causal,
            args=trl.DPOConfig(**common),
            train_dataset=Dataset.from_list([rows[pair.number] for pair in kept_rows]),
            **given,
        ).train_dataset
        theirs = [
            {
                "prompt_ids": row["prompt_ids"],
                "chosen_ids": row["chosen_ids"][: 64 - len(row["prompt_ids"])],
                "rejected_ids": row["rejected_ids"][: 64 - len(row["prompt_ids"])],
            }
            for row in theirs
        ]
        assert ledger.dropped == {"prompt_too_long": 3, "equal_after_cut": 3}
        assert ledger.notes["cut"] == 3
    assert [{name: row[name] for name in ours[0]} for row in theirs] == ours


@pytest.mark.slow
def test_turns_are_found_without_marks_in_the_template(encoder):
    from copy import deepcopy

    from training.core.data.tokens import Encoder

    tokenizer = deepcopy(encoder.tokenizer)
    tokenizer.chat_template = encoder.tokenizer.chat_template.replace(
        "{% generation %}", ""
    ).replace("{% endgeneration %}", "")
    messages = [ASK, SAY, ASK, SAY]
    unmarked = Encoder(tokenizer)
    assert not unmarked.marks_assistant
    ids, labels = unmarked.assistant_labels(messages)
    marked_ids, marked = encoder.assistant_labels(messages)
    assert ids == marked_ids
    learned = tokenizer.decode([token for token in labels if token != -100])
    # Without marks, the line end after the turn counts as the assistant's.
    assert learned == "yes<|im_end|>\nyes<|im_end|>\n"
    assert tokenizer.decode([t for t in marked if t != -100]) == "yes<|im_end|>" * 2


@pytest.mark.slow
def test_a_tokenizer_without_an_end_is_refused(encoder):
    from copy import deepcopy

    from training.core.data.tokens import Encoder

    tokenizer = deepcopy(encoder.tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(RLHFError, match="no end-of-text token") as caught:
        Encoder(tokenizer)
    assert caught.value.code == "RLHF033"


@pytest.mark.slow
def test_a_whole_run_accounts_for_every_row(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    rows = make_pairs(40)
    rows[3]["rejected"] = rows[3]["chosen"]
    rows[5]["chosen"][0]["content"] = ""
    rows[8]["prompt"][0]["content"] += LONG * 9
    config = make_config(
        rows=rows, eval_rows=[], eval_share=0.25, max_samples=20, max_steps=2
    )
    result = RLHFJobRunner(config).run()
    train, held_out = result.ledger["train"], result.ledger["eval"]
    assert train["rows"] == 40
    assert train["dropped"]["chosen_equals_rejected"] == 1
    assert train["dropped"]["empty_completion"] == 1
    assert train["dropped"]["held_out"] == held_out["rows"] == 10
    assert train["used"] + sum(train["dropped"].values()) == 40
    assert held_out["used"] + sum(held_out["dropped"].values()) == 10


@pytest.mark.slow
def test_a_prompt_that_is_trained_on_is_not_held_out(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    shared = make_demonstrations(4)
    config = make_config(
        "sft",
        rows=shared,
        eval_rows=shared[:1] + make_demonstrations(3, seed=7),
        max_steps=1,
    )
    result = RLHFJobRunner(config).run()
    assert result.ledger["eval"]["dropped"] == {"prompt_in_train": 1}
    assert result.eval_metrics["rows"] == 3
