"""What a cell of a dataset says: a plain text, or the messages of a conversation."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, str]
Text = str | list[Message]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


def is_conversation(value: object) -> bool:
    """Whether a cell holds messages and not a plain text."""
    return isinstance(value, list | dict)


def as_messages(value: Any, role: str) -> list[Message]:
    """The messages in a cell; a plain text becomes one message of the given role.

    ShareGPT's names are turned into the common ones, and a content that is given in
    parts is joined.

    >>> as_messages([{"from": "human", "value": "Hi"}], "user")
    [{'role': 'user', 'content': 'Hi'}]
    >>> as_messages("Hello!", "assistant")
    [{'role': 'assistant', 'content': 'Hello!'}]

    Raises:
        ValueError: with what is wrong with the cell.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        return [_message(value)]
    if isinstance(value, list):
        return [_message(item) for item in value]
    raise ValueError(f"{type(value).__name__} is neither text nor messages")


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise ValueError(f"a message is {type(item).__name__}, not role and content")
    role = item.get("role", item.get("from"))
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise ValueError(f"role {role!r} is not known")
    content = item.get("content", item.get("value"))
    return {"role": _ROLES[role.lower()], "content": _content(content)}


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    raise ValueError(f"content is {type(content).__name__}, not text")


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    raise ValueError("content has a part that is not text")


def split_shared_prompt(chosen: Text, rejected: Text) -> tuple[Text, Text, Text]:
    """Take the beginning that two whole conversations share as their prompt.

    Messages are shared whole. Of plain texts, the shared beginning ends before the last
    word that they do not share entirely.

    >>> split_shared_prompt("Human: Hi Assistant: Hello", "Human: Hi Assistant: Hey")
    ('Human: Hi Assistant:', ' Hello', ' Hey')
    """
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    if isinstance(chosen, list):
        # Answers that are the same are no part of the prompt.
        while shared and chosen[shared - 1]["role"] == "assistant":
            shared -= 1
    else:
        while shared and not chosen[shared - 1 : shared].isspace():
            shared -= 1
        while shared and chosen[shared - 1 : shared].isspace():
            shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def is_blank(text: Text) -> bool:
    """Whether nothing is said: no messages, or only white space."""
    return not plain_text(text).strip()


def text_key(text: Text) -> str:
    """A text as one string, equal for equal texts; for grouping rows by prompt."""
    return text if isinstance(text, str) else json.dumps(text, sort_keys=True)


def plain_text(text: Text) -> str:
    """What is said, without roles; for baselines and samples."""
    if isinstance(text, str):
        return text
    return "\n".join(message["content"] for message in text)
