"""The sample project of a first `make run`: something to judge, to watch, to click."""

from __future__ import annotations

import secrets
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

import labelhub
from labelhub.importing import ImportOptions, import_files
from labelhub.models import Membership, Project, User
from training import exporting, runs
from training.core.config import RLHFAlgorithm
from training.models import Run, Snapshot
from training.recipes import Recipe

SAMPLE = Path(labelhub.__file__).parent / "sample"
FILES = ("prompts.jsonl", "responses.jsonl", "judgments.jsonl", "sft_text.jsonl")
NAME = "Sample: everyday answers"
SLUG = "sample"

PEOPLE = {
    "admin": "site admin: everything",
    "annie": Membership.Role.ANNOTATOR,
    "ben": Membership.Role.ANNOTATOR,
    "vera": Membership.Role.VIEWER,
}


class Command(BaseCommand):
    help = (
        "Create the sample project, its people, its frozen datasets and its runs. "
        "What is there already is left alone, so that it may be stopped and repeated."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.ENV.is_loopback_only:
            raise CommandError(
                "The sample project brings accounts with printed passwords, and "
                f"ALLOWED_HOSTS={','.join(settings.ALLOWED_HOSTS)!r} reaches beyond "
                "this machine. Use create_project there."
            )
        passwords = create_people()
        admin = User.objects.get(username="admin")
        project = create_project(admin)
        files = [SAMPLE / name for name in FILES]
        import_files(project, files, ImportOptions(), actor=admin)
        launch_runs(project, admin)
        self._print_accounts(passwords)

    def _print_accounts(self, passwords: dict[str, str]) -> None:
        self.stdout.write("\n  Sample accounts")
        for username, password in passwords.items():
            self.stdout.write(f"    {username:<8}{password:<16}{PEOPLE[username]}")
        self.stdout.write("")


def create_people() -> dict[str, str]:
    """{username: password}, made once and kept in DATA_DIR for its owner's eyes."""
    path = settings.DATA_DIR / "sample_accounts.txt"
    are_new = not path.exists()
    if are_new:
        path.touch(mode=0o600)
        lines = [f"{name} {secrets.token_urlsafe(9)}" for name in PEOPLE]
        path.write_text("\n".join(lines) + "\n")
    passwords = dict(line.split() for line in path.read_text().splitlines())
    for username, password in passwords.items():
        user, is_new = User.objects.get_or_create(username=username)
        if is_new or are_new:
            user.is_superuser = username == "admin"
            user.set_password(password)
            user.save()
    return passwords


@transaction.atomic
def create_project(admin: User) -> Project:
    project, is_new = Project.objects.get_or_create(
        slug=SLUG,
        defaults={
            "name": NAME,
            "description": "Sixty-four everyday prompts, each answered by three "
            "models. The verdicts and the training text that came with it are "
            "sample data, written for LabelHub.",
            "kind": Project.Kind.PAIRWISE,
            "judgments_per_task": 2,
            "created_by": admin,
        },
    )
    if is_new:
        project.write_guideline((SAMPLE / "guidelines.md").read_text(), admin)
        for username, role in PEOPLE.items():
            if username != "admin":
                user = User.objects.get(username=username)
                project.memberships.create(user=user, role=role)
    return project


def launch_runs(project: Project, admin: User) -> None:
    """SFT on a starter model, then a reward model and DPO on what SFT made."""
    sft = launch(project, admin, SFT)
    launch(project, admin, REWARD, base=sft)
    launch(project, admin, DPO, base=sft)


COMMON = {"gradient_checkpointing": False, "cpu_threads": 1, "max_length": 384}
SFT = {
    **COMMON,
    "job_name": "Sample: teach a starter model",
    "algorithm": "sft",
    "base_model": "starter:small",
    "learning_rate": 1e-3,
    "num_epochs": 2,
    "per_device_batch_size": 16,
    "logging": {"eval_interval": 70},
}
REWARD = {
    **COMMON,
    "job_name": "Sample: reward model",
    "algorithm": "reward_model",
    "learning_rate": 3e-4,
    "num_epochs": 3,
}
DPO = {
    **COMMON,
    "job_name": "Sample: DPO with LoRA",
    "algorithm": "dpo",
    "learning_rate": 5e-4,
    "num_epochs": 3,
    "peft": {"method": "lora", "r": 16, "alpha": 32},
}


def launch(
    project: Project, admin: User, config: dict[str, Any], base: Run | None = None
) -> Run:
    # The same id every time: launching again finds the run that is there.
    request_id = uuid.uuid5(uuid.NAMESPACE_URL, f"labelhub:{config['job_name']}")
    launched = Run.objects.filter(request_id=request_id).first()
    return launched or runs.launch(
        project,
        actor=admin,
        name=config["job_name"],
        config=config,
        snapshot=freeze(project, admin, config["algorithm"]),
        base_run=base,
        request_id=request_id,
    )


def freeze(project: Project, admin: User, algorithm: str) -> Snapshot:
    recipe = Recipe(algorithm=RLHFAlgorithm(algorithm), eval_share=0.2)
    return exporting.freeze(project, recipe, actor=admin)
