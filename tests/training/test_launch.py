"""A form sent once launches one run; a form sent wrong launches none."""

from __future__ import annotations

import uuid

import pytest
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.builders import add_member, make_project, make_run, make_snapshot
from tests.conftest import client_of
from training.config_fields import settings_of
from training.core.config import RLHFConfig
from training.models import Run


def launch_url(project, query=""):
    return reverse("training:launch", args=[project.slug]) + query


def summary_url(project):
    return reverse("training:launch_summary", args=[project.slug])


@pytest.fixture
def snapshot(project):
    return make_snapshot(project)


@pytest.fixture
def typed(snapshot):
    """A form that can be launched."""
    return {
        "name": "helpful-v1",
        "snapshot": snapshot.pk,
        "algorithm": "dpo",
        "base_model": "org/base@v1",
        "method": "lora",
        "request_id": str(uuid.uuid4()),
    }


# --- Launching ---


def test_it_works(manager, mona, project, snapshot, typed):
    r = manager.post(launch_url(project), typed)
    run = Run.objects.get()
    assertRedirects(r, run.get_absolute_url())
    assert (run.name, run.algorithm, run.state) == ("helpful-v1", "dpo", "queued")
    assert (run.snapshot, run.created_by) == (snapshot, mona)
    assert run.config["base_model"] == "org/base@v1"


def test_what_is_typed_reaches_the_configuration(manager, project, typed):
    manager.post(
        launch_url(project),
        typed
        | {
            "learning_rate": "2e-5",
            "num_epochs": "2",
            "per_device_batch_size": "4",
            "peft.r": "16",
            "peft.target_modules": "q_proj, v_proj",
            "dpo_config.beta": "0.3",
            "dpo_config.loss_type": "robust",
            "dpo_config.label_smoothing": "0.1",
            "logging.eval_interval": "50",
            "gradient_checkpointing": "false",
        },
    )
    config = Run.objects.get().config
    assert config["learning_rate"] == 2e-5
    assert config["num_epochs"] == 2
    assert config["per_device_batch_size"] == 4
    assert config["peft"]["r"] == 16
    assert config["peft"]["target_modules"] == ["q_proj", "v_proj"]
    assert config["dpo_config"]["beta"] == 0.3
    assert config["dpo_config"]["loss_type"] == "robust"
    assert config["logging"]["eval_interval"] == 50
    assert config["gradient_checkpointing"] is False


def test_empty_fields_are_left_to_the_configuration(manager, project, typed):
    manager.post(launch_url(project), typed | {"method": "full"})
    run = Run.objects.get()
    values = {
        "job_name": "helpful-v1",
        "algorithm": "dpo",
        "base_model": "org/base@v1",
        "dataset_path": run.config["dataset_path"],
        "output_dir": ".",
    }
    assert run.config == RLHFConfig.from_dict(values).resolved().to_dict()


def test_a_double_click_makes_one_run(manager, project, typed):
    first = manager.post(launch_url(project), typed)
    second = manager.post(launch_url(project), typed)
    assert first.url == second.url
    assert Run.objects.count() == 1


def test_it_starts_from_a_run_of_this_project(manager, project, snapshot, typed):
    base = make_run(project, state=Run.State.SUCCEEDED, uri="file:///model")
    manager.post(launch_url(project), typed | {"base_model": f"run:{base.pk}"})
    assert Run.objects.latest("pk").base_run == base


# --- Refusing ---


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "", "This field is required."),
        ("base_model", "", "This field is required."),
        ("base_model", "/etc/passwd", "/etc/passwd"),
        ("base_model", "run:999999", "There is no run 999999"),
        ("base_model", "hf_abcdefghijklmnop", "token"),
        ("algorithm", "ppo", "Select a valid choice"),
        ("algorithm", "sft", "sft learns from completions"),
        ("snapshot", "999999", "Select a valid choice"),
        ("method", "qlora", "Select a valid choice"),
        ("learning_rate", "-1", "greater than 0, not -1.0"),
        ("learning_rate", "fast", "Enter a number."),
        ("learning_rate", "1e999", "Enter a number."),
        ("peft.r", "0", "greater than or equal to 1, not 0"),
        ("max_steps", "9" * 25, "less than 2147483648"),
        ("num_epochs", "1e308", "less than or equal to 10000"),
        ("dpo_config.label_smoothing", "0.5", "less than 0.5"),
        ("warmup_ratio", "1", "less than 1"),
        ("lr_scheduler", "zigzag", "Select a valid choice"),
        ("request_id", "x", "Enter a valid UUID"),
    ],
)
def test_it_rejects_and_keeps_what_was_typed(
    manager, project, typed, field, value, sentence
):
    r = manager.post(launch_url(project), typed | {field: value, "seed": "1234"})
    assertContains(r, sentence, status_code=422)
    assertContains(r, 'value="1234"', status_code=422)
    assert not Run.objects.exists()


def errors_after(manager, project, typed, **changes):
    r = manager.post(launch_url(project), typed | changes)
    assert r.status_code == 422
    assert not Run.objects.filter(name=typed["name"]).exists()
    return r.context["form"].errors


def test_conflicts_are_told_at_the_first_of_the_fields(manager, project, typed):
    errors = errors_after(manager, project, typed, max_steps="5", num_epochs="1")
    assert errors["max_steps"] == [
        "max_steps and num_epochs exclude each other: remove one."
    ]


def test_a_setting_without_effect_is_refused(manager, project, typed):
    changes = {"method": "full", "peft.r": "16"}
    errors = errors_after(manager, project, typed, **changes)
    assert "method full trains none" in errors["peft.r"][0]


def test_a_name_too_long_for_any_model_is_refused(manager, project, typed, settings):
    settings.MODEL_ROOTS[0].mkdir(parents=True)
    for name in ("a" * 290, f"org/{'a' * 290}"):
        errors = errors_after(manager, project, typed, base_model=name)
        assert "is neither a hub id" in str(errors)


def test_a_run_without_a_model_is_no_base(manager, project, typed):
    base = make_run(project, state=Run.State.FAILED)
    errors = errors_after(manager, project, typed, base_model=f"run:{base.pk}")
    assert "left no model to start from" in str(errors)


def test_another_projects_rows_cannot_be_named(manager, project, typed):
    other = make_project()
    elsewhere = make_run(other, state=Run.State.SUCCEEDED, uri="file:///model")
    for changes in (
        {"snapshot": make_snapshot(other).pk},
        {"base_model": f"run:{elsewhere.pk}"},
        {"clone": elsewhere.pk},
    ):
        r = manager.post(launch_url(project), typed | changes)
        assert r.status_code == 422
    assert not Run.objects.filter(project=project).exists()


# --- The form ---


def test_it_asks_for_every_setting(manager, project, snapshot):
    r = manager.get(launch_url(project))
    for name, info in settings_of():
        assertContains(r, f'name="{name}"')
        assertContains(r, f"id_{name}_helptext")
        assert info.description


def test_it_starts_with_the_dataset_of_the_address(manager, project, snapshot):
    newer = make_snapshot(project, recipe={"for": "sft"})
    r = manager.get(launch_url(project, f"?snapshot={snapshot.pk}"))
    assert r.context["form"]["snapshot"].value() == snapshot.pk
    assert r.context["form"]["algorithm"].value() == "dpo"
    r = manager.get(launch_url(project))
    assert r.context["form"]["snapshot"].value() == newer.pk


@pytest.mark.parametrize(
    "query",
    [
        "?snapshot=999999",
        "?snapshot=x",
        "?clone=x",
        f"?snapshot={'9' * 5000}",
        f"?clone={'9' * 5000}",
    ],
)
def test_it_handles_an_address_that_names_nothing(manager, project, snapshot, query):
    assert manager.get(launch_url(project, query)).status_code == 200


def test_a_clone_is_filled_in_as_it_was(manager, project, typed):
    changes = {"learning_rate": "3e-5", "peft.r": "32", "seed": "7"}
    manager.post(launch_url(project), typed | changes)
    run = Run.objects.get()
    r = manager.get(launch_url(project, f"?clone={run.pk}"))
    form = r.context["form"]
    again = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in again.items() if value is not None}
    r = manager.post(launch_url(project), sent)
    copy = Run.objects.latest("pk")
    assert copy != run
    assert (copy.config, copy.parent) == (run.config, run)


def test_another_projects_run_cannot_be_cloned(manager, project, snapshot):
    run = make_run(make_project())
    assert manager.get(launch_url(project, f"?clone={run.pk}")).status_code == 404


def test_without_a_dataset_it_says_where_to_begin(manager, project):
    assertContains(manager.get(launch_url(project)), "There is no dataset yet")


def test_snapshots_that_are_not_ready_are_not_offered(manager, project, snapshot):
    freezing = make_snapshot(project, state="freezing", sha256="")
    r = manager.get(launch_url(project))
    assertNotContains(r, f'<option value="{freezing.pk}"')


def test_models_that_are_there_are_offered(manager, project, snapshot, settings):
    folder = settings.MODEL_ROOTS[0] / "starter"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    base = make_run(project, "first", state=Run.State.SUCCEEDED, uri="file:///x")
    broken = make_run(project, state=Run.State.FAILED)
    r = manager.get(launch_url(project))
    assertContains(r, '<option value="starter">')
    assertContains(r, f'<option value="run:{base.pk}">')
    assertNotContains(r, f'"run:{broken.pk}"')


def test_without_any_model_a_starter_is_proposed(manager, project, snapshot):
    initial = manager.get(launch_url(project)).context["form"].initial
    assert (initial["base_model"], initial["method"]) == ("starter:small", "full")


def test_the_newest_run_that_writes_is_proposed_at_its_own_pace(
    manager, project, snapshot
):
    config = {"base_model": "starter:small"}
    ended = {"state": Run.State.SUCCEEDED, "uri": "store:x"}
    sft = make_run(project, algorithm="sft", config=config, **ended)
    dpo = make_run(project, base_run=sft, **ended)
    make_run(project, algorithm="reward_model", base_run=sft, **ended)
    initial = manager.get(launch_url(project)).context["form"].initial
    assert (initial["base_model"], initial["method"]) == (f"run:{dpo.pk}", "lora")
    # What a pretrained model needs would not move a starter.
    assert initial["learning_rate"] > 1e-4


# --- The summary ---


def test_the_summary_counts_steps(manager, project, typed):
    r = manager.post(
        summary_url(project),
        typed | {"per_device_batch_size": "4", "gradient_accumulation_steps": "2"},
    )
    # 90 rows make 23 batches of 4, and those 12 steps of two.
    assert r.context["summary"].steps == 12
    assertNotContains(r, "<html")
    assert not Run.objects.exists()


@pytest.mark.slow  # imports the trainer's libraries
def test_the_summary_counts_steps_as_the_trainer_plans_them(manager, project, typed):
    base = pytest.importorskip("training.core.trainers.base")
    for changes in (
        {"num_epochs": "1.5"},
        {"max_steps": "33"},
        {"per_device_batch_size": "7", "gradient_accumulation_steps": "3"},
        {"max_samples": "50", "num_epochs": "3"},
    ):
        r = manager.post(summary_url(project), typed | changes)
        config = RLHFConfig.from_dict(
            {
                "job_name": "x",
                "algorithm": "dpo",
                "base_model": "x",
                "dataset_path": "x",
                "output_dir": ".",
                **{name: float(value) for name, value in changes.items()},
            }
        )
        rows = min(90, config.max_samples or 90)
        assert r.context["summary"].steps == base.plan(config, rows).max_steps


def test_the_summary_warns_of_what_will_say_nothing(manager, project, typed):
    r = manager.post(summary_url(project), typed)
    assertContains(r, "Only 10 rows are held out")


def test_the_summary_says_when_data_and_algorithm_do_not_fit(manager, project, typed):
    r = manager.post(summary_url(project), typed | {"algorithm": "sft"})
    assertContains(r, "choose Reward model or DPO or IPO")


@pytest.mark.parametrize("changes", [{}, {"snapshot": ""}, {"learning_rate": "x"}])
def test_the_summary_of_half_a_form_is_no_error(manager, project, typed, changes):
    half = {"snapshot": typed["snapshot"]} | changes
    assert manager.post(summary_url(project), half).status_code == 200


# --- Who may ---


def test_only_managers_launch(client, vera, rita, charlie, project, snapshot, typed):
    for user in (vera, rita):
        for r in (
            client_of(user).get(launch_url(project)),
            client_of(user).post(launch_url(project), typed),
            client_of(user).post(summary_url(project), typed),
        ):
            assert r.status_code == 403
    for other in (client, client_of(charlie)):
        assert other.get(launch_url(project)).status_code == 404
        assert other.post(launch_url(project), typed).status_code == 404
    assert not Run.objects.exists()


def test_it_requires_login(django_client, project):
    url = launch_url(project)
    assertRedirects(
        django_client.get(url), f"/login/?next={url}", fetch_redirect_response=False
    )


def test_the_summary_is_asked_for_by_post(manager, project):
    assert manager.get(summary_url(project)).status_code == 405


# --- Stop, cancel, retry ---


ACTIONS = ["stop", "cancel", "retry"]


def act(client, name, run):
    return client.post(
        reverse(f"training:{name}", args=[run.project.slug, run.pk]), follow=True
    )


def test_a_running_run_can_be_stopped_twice(manager, project):
    run = make_run(project, state=Run.State.RUNNING)
    for _ in range(2):
        assert act(manager, "stop", run).status_code == 200
        run.refresh_from_db()
        assert (run.state, run.wish) == (Run.State.STOPPING, Run.Wish.STOP)
    assert run.events.filter(kind="stop_asked").count() == 1


def test_a_queued_run_is_canceled_at_once(manager, project):
    run = make_run(project)
    act(manager, "cancel", run)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELED


def test_a_failed_run_can_be_retried(manager, project):
    run = make_run(project, state=Run.State.FAILED, error={"message": "no"})
    act(manager, "retry", run)
    run.refresh_from_db()
    assert run.state == Run.State.QUEUED


@pytest.mark.parametrize("name", ACTIONS)
def test_an_ended_run_stays_and_says_so(manager, project, name):
    run = make_run(project, state=Run.State.SUCCEEDED)
    assertContains(act(manager, name, run), f"Run {run.pk}")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED


@pytest.mark.parametrize("name", ACTIONS)
def test_only_managers_act(client, manager, mona, vera, rita, project, name):
    run = make_run(project, state=Run.State.RUNNING)
    assert act(client, name, run).status_code == 404
    assert act(client_of(vera), name, run).status_code == 403
    assert act(client_of(rita), name, run).status_code == 403
    other = make_project()
    add_member(other, mona, "manager")
    foreign = reverse(f"training:{name}", args=[other.slug, run.pk])
    assert manager.post(foreign).status_code == 404
    url = reverse(f"training:{name}", args=[project.slug, run.pk])
    assert manager.get(url).status_code == 405
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


def test_readers_see_no_buttons(vera, manager, project):
    run = make_run(project, state=Run.State.RUNNING)
    assertContains(manager.get(run.get_absolute_url()), "Stop and save")
    assertNotContains(client_of(vera).get(run.get_absolute_url()), "Stop and save")
