"""What `sluice takedown` prints: the documents that go, or went, and what was made with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_specs.amounts import plural
from data_specs.redaction import escaped
from flows.terminal import LONGEST, STEPS, console, line


def show(found: Mapping[str, Any]) -> None:
    """Print what a takedown takes or took, and what was made with it."""
    done, named = found["state"] == "ended", found["named"]
    if found["state"] == "known":
        return _print("all of it was taken down before; no document that it names is in the store")
    _documents(found, done)
    for each in named["trainings"]:
        _print(f"training runs/{escaped(each['run'])}: {_trained_on(each)}")
    for each in named["exports"]:
        _print(f"{each.get('what') or 'export'} {line(each['to'])}, {_exported(each)}")
    _pins(named)
    for name, versions in named["versions"].items():
        numbers = ", ".join(map(str, versions))
        what, are = ("versions", "they are") if versions[1:] else ("version", "it is")
        _print(f"{what} {numbers} of {escaped(name)}: {are} not exported any more")
    if shards := named.get("unsought"):
        _unsought(shards, done)
    for plan, files in named.get("unknown_tokens", {}).items():
        _unknown(plan, len(files))
    _what_follows(found, done)


def _print(text: str) -> None:
    console().print(text, soft_wrap=True)


def _documents(found: Mapping[str, Any], done: bool) -> None:
    """The documents that are named, and what was asked for and names none."""
    asked, count = found["asked"], plural(found["count"], "document")
    few = _few([*asked["urls"], *asked["domains"], *asked["ids"]])
    shown = found["documents"][:LONGEST] if all("why" in row for row in found["documents"][:1]) else []
    title = f"takedown {found['takedown']}: {count} purged" if done else f"{count} would be purged"
    title += f" (asked: {few})" if few else ""
    _print(f"{title}:" if shown else title)
    for row in shown:
        where = line(row["url"] or row["file"])
        _print(f"  {row['id']}  {row['why']}  {escaped(row['source'])}  {where}")
    if shown and found["count"] > len(shown):
        _print(f"  ... ({found['count'] - len(shown):,} more; `--json` gives all)")
    if unmet := found["unmet"]:
        later = "what comes of it is refused" if done else "with `--yes` what comes of it is refused"
        _print(f"names no document: {_few(unmet)}; {later}")


def _pins(named: Mapping[str, Any]) -> None:
    for name, count in named["pins"].items():
        how = "may have been learned from them" if count is None else f"learned from {count:,} of them"
        _print(f"pin {escaped(name)}: {how}; `sluice run SPEC --retrain {escaped(name)}` learns it anew")
    for each in named.get("other_pins", ()):
        pin = f"pin {escaped(each['pin'])} of {escaped(each['lineage'])}, {line(each['path'])}"
        known = "learned by a run that had them"
        unknown = "it is not known whether the run that learned it had them"
        _print(f"{pin}: {known if each['had'] else unknown}; from which documents is not looked into")


def _unsought(shards: Sequence[str], done: bool) -> None:
    some = ", ".join(map(line, shards[:STEPS])) + (", ..." if shards[STEPS:] else "")
    remedy = "" if done else ": `sluice run SPEC` tries them again, which is better done first"
    where = f"near-copies {'were' if done else 'are'} not sought in {plural(len(shards), 'shard')} ({some})"
    _print(f"{where}, whose duplicates are quarantined{remedy}")


def _unknown(plan: str, files: int) -> None:
    what = f"{plural(files, 'file')} of tokens of documents that the store has no more"
    if plan:
        remedy = "if it may, remove the plan's folder, and then by `sluice gc SPEC --yes` what it reads"
        return _print(f"plan {line(plan)} reads {what}: it cannot be told whether it has some of these; {remedy}")
    _print(f"{what}: it cannot be told whose they are; `sluice gc SPEC --yes` removes them")


def _what_follows(found: Mapping[str, Any], done: bool) -> None:
    if not done:
        return _print("nothing is changed; `--yes` does it")
    if found["count"]:
        plain = "what comes later at these addresses is refused; the same texts at others are not"
        full = "what comes later at these addresses, or with the same words, is refused; near-copies at others are not"
        _print(plain if found["asked"]["only"] else full)
        _print("`sluice run SPEC` makes a version without them")


def _few(names: Sequence[str]) -> str:
    """The first of many names, and how many there are."""
    return ", ".join(map(line, names[:STEPS])) + (f", ... ({len(names):,})" if names[STEPS:] else "")


def _exported(export: dict[str, Any]) -> str:
    """Of what an export is that may hold what is taken down, and what to do."""
    if run := export.get("run"):
        return f"of runs/{escaped(run)} at step {export['step']:,}: trained on them; remove it, or keep it"
    corpus = (
        f"of version {export['version']}" if export["version"] else f"of {escaped(export.get('plan') or 'the corpus')}"
    )
    return f"{corpus}: " + (
        "in the store, goes with them" if export["inside"] else "may hold them; make it again, and remove the old one"
    )


def _trained_on(use: dict[str, Any]) -> str:
    """What a training has of documents that are taken down."""
    if "unknown" in use:
        return f"it cannot be told whether it read them ({line(use['unknown'], None)})"
    if not use["steps"] and "began_with" not in use:
        return "evaluated on them, never trained"
    kept = ", ".join(each.rpartition("/")[2] for each in use["checkpoints"]) or "none is kept"
    places = [line(use[name]) for name in ("exported", "uploaded") if use.get(name)]
    exported = f"; exported as {' and '.join(places)}" if places else ""
    if "began_with" in use:
        also_read = f", and read them at {plural(use['steps'], 'step')}" if use["steps"] else ""
        return f"began with {escaped(use['began_with'])}, which has them{also_read}; checkpoints: {kept}{exported}"
    return (
        f"read them at {plural(use['steps'], 'step')}, first {use['first_step']:,}; checkpoints since: {kept}{exported}"
    )
