"""The README of a trained model: what it is, what it learned from, how well it does."""

from __future__ import annotations

from collections.abc import Mapping

from training.core.config import PEFTMethod, RLHFAlgorithm, RLHFConfig
from training.core.result import RLHFJobResult


def model_card(config: RLHFConfig, result: RLHFJobResult) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        config: The settings of the run, with paths relative to it.
        result: All but the reload check, which needs the folder this goes into.
    """
    is_adapter = config.method is not PEFTMethod.FULL
    is_reward = config.algorithm is RLHFAlgorithm.REWARD_MODEL
    tags = ["trl", str(config.algorithm)] + (["lora"] if is_adapter else [])
    lines = [
        "---",
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        f"tags: [{', '.join(tags)}]",
        "---",
        "",
        f"# {config.job_name}",
        "",
        f"A {'reward model' if is_reward else 'language model'} trained with "
        f"{config.algorithm} ({config.method}) from `{config.base_model}` on "
        f"`{config.dataset_path}`, {result.total_steps} optimizer steps.",
        "",
        "## Use",
        "",
        "```python",
        *_usage(config, is_adapter=is_adapter, is_reward=is_reward),
        "```",
        "",
        "## Data",
        "",
        *_data(result),
        "",
        "## Held-out measurements",
        "",
        *_table(result.eval_metrics, "There were no held-out rows."),
        "",
        "## Training",
        "",
        *_table(
            {
                "final_loss": result.final_loss,
                "best_held_out_loss": result.best_loss,
                "learning_rate": config.learning_rate,
                "per_device_batch_size": config.per_device_batch_size,
                "gradient_accumulation_steps": config.gradient_accumulation_steps,
                "max_length": config.max_length,
                "seed": config.seed,
                "precision": result.precision,
                "device": result.device,
                "trainable_parameters": result.trainable_parameters,
                "total_parameters": result.total_parameters,
                **result.versions,
            },
            "",
        ),
        "",
        "Every setting is in `rlhf_config.json`.",
        "",
    ]
    return "\n".join(lines)


def _usage(config: RLHFConfig, *, is_adapter: bool, is_reward: bool) -> list[str]:
    task = "SequenceClassification" if is_reward else "CausalLM"
    if is_adapter:
        extra = ", num_labels=1" if is_reward else ""
        return [
            f"from peft import AutoPeftModelFor{task}",
            f'model = AutoPeftModelFor{task}.from_pretrained("."{extra})',
        ]
    return [
        f"from transformers import AutoModelFor{task}",
        f'model = AutoModelFor{task}.from_pretrained(".")',
    ]


def _data(result: RLHFJobResult) -> list[str]:
    if result.ledger is None:
        return []
    lines = ["| split | rows | used | left out |", "|---|---|---|---|"]
    for split in ("train", "eval"):
        account = result.ledger[split]
        told = [f"{count} {reason}" for reason, count in account["dropped"].items()]
        lines.append(
            f"| {split} | {account['rows']} | {account['used']} | "
            f"{', '.join(told) or 'none'} |"
        )
    return lines


def _table(values: Mapping[str, object], nothing: str) -> list[str]:
    if not values:
        return [nothing]
    lines = ["| | |", "|---|---|"]
    for name, value in values.items():
        told = f"{value:.6g}" if isinstance(value, float) else str(value)
        lines.append(f"| {name} | {told} |")
    return lines
