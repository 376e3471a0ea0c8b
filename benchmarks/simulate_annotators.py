"""What is recovered from annotators whose errors the models do not know, and what not.

    python benchmarks/simulate_annotators.py [--simulations 2000] [--seed 0]

Thirty annotators judge pairs of six models' answers, three a task. They err more where
answers are close, some prefer length, some the left, some tire, two of them copy each
other. No Django, no database. Prints the coverage of the 95 % intervals, each against
what the same measure gives on a very large sample of the same kind; the aim is 94 to
96 %.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from labelhub.quality import coefficients as agree  # noqa: E402
from labelhub.quality.arrays import Judged  # noqa: E402
from labelhub.quality.bias import NO_LENGTH, NO_SIDE  # noqa: E402
from labelhub.quality.estimate import Estimate  # noqa: E402
from labelhub.quality.habits import favour  # noqa: E402
from labelhub.quality.ranking import Comparisons, rank  # noqa: E402
from labelhub.quality.reliability import (  # noqa: E402
    Compared,
    accuracies,
    crowd_bt,
    dawid_skene,
)

PEOPLE, A_TASK, MODELS = 30, 3, 6
STRENGTH = np.linspace(1.0, -1.0, MODELS)
COLLUDERS = (28, 29)
A, TIE, B = 0, 1, 2
AIM = (0.94, 0.96)


@dataclass(frozen=True)
class World:
    judged: Judged
    comparisons: Comparisons
    compared: Compared
    winner: np.ndarray
    longer: np.ndarray
    left: np.ndarray
    right: np.ndarray
    """Which response is the better one: 1 for a, -1 for b."""


SHARPNESS = np.random.default_rng(1).uniform(0.6, 2.5, PEOPLE)
LENGTH = np.where(np.arange(PEOPLE) % 5 == 0, 0.8, 0.1)
SIDE = np.where(np.arange(PEOPLE) % 7 == 0, 0.6, 0.05)
TIRES = np.where(np.arange(PEOPLE) % 6 == 0, 0.6, 0.0)


def world(chance: np.random.Generator, prompts: int, tasks_a_prompt: int = 2) -> World:
    """Errors depend on the pair, on its length, its sides and on the hour."""
    n_tasks = prompts * tasks_a_prompt
    prompt = np.repeat(np.arange(prompts), tasks_a_prompt)
    suits = STRENGTH + chance.normal(0, 0.8, (prompts, MODELS))
    first = chance.integers(0, MODELS, n_tasks)
    second = (first + chance.integers(1, MODELS, n_tasks)) % MODELS
    gap = suits[prompt, first] - suits[prompt, second]
    length = chance.normal(0.2 * gap, 0.7)
    people = np.argsort(chance.random((n_tasks, PEOPLE)), axis=1)[:, :A_TASK]
    # The second of the pair often sits beside the first, on the same tasks.
    together = (people[:, 0] == COLLUDERS[0]) & (people != COLLUDERS[1]).all(axis=1)
    people[together, 1] = COLLUDERS[1]
    task = np.repeat(np.arange(n_tasks), A_TASK)
    person = people.ravel()
    left = chance.choice([-1, 1], len(task))
    hour = chance.random(len(task))
    pull = SHARPNESS[person] * (1 - TIRES[person] * hour) * gap[task]
    pull = pull + LENGTH[person] * length[task] + SIDE[person] * left
    noise = chance.logistic(0, 1, len(task))
    noise += chance.normal(0, 0.5, n_tasks)[task]  # What all misread alike.
    said = pull + noise
    verdict = np.where(np.abs(said) < 0.4, TIE, np.where(said > 0, A, B))
    verdict = verdict.reshape(-1, A_TASK)
    verdict[together, 1] = verdict[together, 0]
    verdict = verdict.ravel()
    outcome = 1 - verdict
    return World(
        judged=Judged.of(prompt[task], task, person, verdict),
        comparisons=Comparisons(
            prompt[task],
            first[task],
            second[task],
            outcome,
            MODELS,
            np.zeros((len(task), 0)),
        ),
        compared=Compared(
            prompt[task], person, 2 * task, 2 * task + 1, outcome, PEOPLE, 2 * n_tasks
        ),
        winner=outcome,
        longer=np.sign(length[task]).astype(int),
        left=left,
        right=np.sign(gap).astype(int),
    )


def measures(found: World) -> dict[str, list[Estimate]]:
    counts, prompt = found.judged.counts()
    where = found.comparisons.prompt
    [board] = rank(found.comparisons).groups
    by_model = sorted(board, key=lambda ranked: ranked.model)
    return {
        "agreement": [agree.agreement(counts, prompt)],
        "cohen": [agree.cohen(found.judged)],
        "fleiss": [agree.fleiss(counts, prompt)],
        "alpha": [agree.alpha(counts, prompt)],
        "ac1": [agree.ac1(counts, prompt)],
        "position_bias": [favour(where, found.winner, found.left, NO_SIDE)],
        "length_bias": [favour(where, found.winner, found.longer, NO_LENGTH)],
        "leaderboard": [ranked.strength for ranked in by_model],
    }


def coverage(simulations: int, prompts: int, chance: np.random.Generator) -> bool:
    truth = {
        name: [float(estimate.value or 0) for estimate in estimates]
        for name, estimates in measures(world(chance, 60_000)).items()
    }
    held = {name: np.zeros(2) for name in truth}
    for _ in range(simulations):
        for name, estimates in measures(world(chance, prompts)).items():
            for estimate, value in zip(estimates, truth[name], strict=True):
                if estimate.low is not None and estimate.high is not None:
                    held[name] += [estimate.low <= value <= estimate.high, 1]
    print(f"\nIntervals, {simulations:,} simulations of {prompts} prompts")
    met = True
    for name, (hits, n) in held.items():
        share = hits / n
        inside = AIM[0] <= round(share, 3) <= AIM[1]
        met &= inside
        print(f"  {name:<16}{share:7.1%}  {'' if inside else 'outside 94 to 96 %'}")
    return met


def people_coverage(
    simulations: int, prompts: int, chance: np.random.Generator
) -> None:
    """Of single people, where one fit costs a second: fewer simulations."""
    large = world(chance, 8_000)
    truth = {
        "accuracy": dawid_skene(large.judged, tolerance=1e-5).accuracy,
    }
    held = dict.fromkeys(truth, 0.0)
    for _ in range(simulations):
        found = world(chance, prompts)
        for name, estimates in (("accuracy", accuracies(found.judged)),):
            held[name] += np.mean(
                [
                    estimate.low is not None
                    and estimate.low <= value <= (estimate.high or 1)
                    for estimate, value in zip(estimates, truth[name], strict=True)
                ]
            )
    print(f"\nOf people, {simulations:,} simulations of {prompts} prompts")
    for name, total in held.items():
        print(f"  {name:<16}{total / simulations:7.1%} of {PEOPLE} people held")


def recovered(chance: np.random.Generator, prompts: int) -> None:
    found = world(chance, prompts)
    judged = found.judged
    truth = found.right[judged.task]
    decided = judged.verdict != TIE
    right = (1 - judged.verdict == truth) & decided
    times = np.bincount(judged.judge, weights=decided, minlength=PEOPLE)
    really = np.bincount(judged.judge, weights=right, minlength=PEOPLE) / times
    others = np.setdiff1d(np.arange(PEOPLE), COLLUDERS)
    dawid = dawid_skene(judged)
    crowd = crowd_bt(found.compared)
    print(f"\nRecovered, {prompts} prompts, {len(judged):,} judgments")
    for name, estimate in (
        ("accuracy", dawid.accuracy),
        ("reliability", crowd.reliability),
    ):
        order = np.corrcoef(
            *(np.argsort(np.argsort(x[others])) for x in (estimate, really))
        )
        print(
            f"  {name:<12} rank correlation with the truth {order[0, 1]:.2f};"
            f" mean {estimate[others].mean():.2f}, truth {really[others].mean():.2f};"
            f" who copy each other {estimate[list(COLLUDERS)].mean():.2f},"
            f" truth {really[list(COLLUDERS)].mean():.2f}"
        )
    for name, favoured, really_so in (
        ("position_bias", found.left, SIDE),
        ("length_bias", found.longer, LENGTH),
    ):
        shares = []
        for person in range(PEOPLE):
            own = found.compared.judge == person
            shares.append(
                favour(
                    found.comparisons.prompt[own], found.winner[own], favoured[own], ""
                ).value
            )
        biased = really_so > 0.5
        print(
            f"  {name:<14} mean of the biased {np.mean(np.array(shares)[biased]):.3f},"
            f" of the others {np.mean(np.array(shares)[~biased]):.3f}"
        )
    [board] = rank(found.comparisons).groups
    print(
        "  leaderboard    order", [ranked.model for ranked in board], "(truth 0 to 5)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--of-people", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, commit {commit},"
        f" load {os.getloadavg()[0]:.1f}, seed {options.seed}"
    )
    began = time.process_time()
    chance = np.random.default_rng(options.seed)
    recovered(chance, 2_000)
    met = coverage(options.simulations, options.prompts, chance)
    if options.of_people:
        people_coverage(options.of_people, 400, chance)
    spent = time.process_time() - began
    print(f"\n{spent:.0f} s of CPU, load {os.getloadavg()[0]:.1f} after")
    print(f"Aim (94 to 96 % each): {'met' if met else 'not met'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
