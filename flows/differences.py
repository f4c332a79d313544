"""What differs between two sets of settings, in words."""

from __future__ import annotations

from typing import Any

import orjson


def differences(where: str, before: Any, now: Any) -> list[str]:
    """`settings.threshold: 0.8 -> 0.7`, `settings.where: not set -> length > 9`, one per changed leaf; what has a name
    is told by it, not by its place; of a list of texts what came (+) and what went (-)."""
    now = orjson.loads(orjson.dumps(now))
    if isinstance(before, dict) and before and now is None:
        now = {}
    elif isinstance(now, dict) and now and before is None:
        before = {}
    if (named := _named(before)) and (also := _named(now)):
        order = [[name for name in each if name in named and name in also] for each in (named, also)]
        moved = [f"{where}: in another order"] if order[0] != order[1] else []
        return moved + differences(where, named, also)
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for name in sorted(before.keys() | now.keys()):
            found += differences(f"{where}.{name}".lstrip("."), before.get(name), now.get(name))
        return found
    if _texts(before) and _texts(now) and set(before) != set(now):
        came, went = ([each for each in a if each not in b] for a, b in ((now, before), (before, now)))
        return [f"{where}: {', '.join([*(f'+ {each}' for each in came), *(f'- {each}' for each in went)])}"]
    return [] if before == now else [f"{where}: {_written(before)} -> {_written(now)}"]


def _written(value: Any) -> str:
    """A value as specs have it."""
    return "not set" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _named(value: Any) -> dict[str, Any]:
    """A list of objects with names as a mapping; {} for anything else."""
    if not (isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value)):
        return {}
    return {each["name"]: {key: part for key, part in each.items() if key != "name"} for each in value}
