"""The data card of an export: a README.md whose front matter tells the readers of data sets where the files are, and
whose text tells people what is in them. It has no clock and no place, so the same documents have the same card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from data_specs.amounts import plural
from data_specs.groups import named
from data_specs.redaction import printable
from flows.terminal import percent
from tasks.engine.export import ENDS, Exported

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
          (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"))  # fmt: skip
"""Sizes of data sets as the hub's front matter names them."""
OWN = {
    "takedown": "taken down",
    "held_out": "held out for evaluation",
    "held_out_copy": "alike to a held-out document",
    "duplicate": "alike to a document that is kept",
    "no_channel": "in no channel",
    "emptied": "nothing was left of its text by rewriting",
    "emptied_by_cut": "all of its text stands in others that are kept",
}
"""What reasons mean that are neither rules nor of reading."""


def card(made: Mapping[str, Any], found: Exported, counts: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The card of an export of a corpus: how it was `made`, its funnel `counts`, and `about`, what was asked for."""
    parts = [
        *_front(made, found, about),
        f"# {made['name']}",
        "",
        f"{plural(found.documents, 'document')} in {plural(len(found.files), 'file')}, {plural(found.bytes, 'byte')}.",
        *_asked(about),
        "",
        *_section("Sources", ["source", "kind", "license", "documents", "bytes of text"], _sources(made, found)),
        *_section("Languages", ["language", "documents", "bytes of text"], _counted(found, "language")),
        *_section("Channels", ["channel", "documents", "bytes of text"], _counted(found, "channel")),
        *_section("Columns", ["column", "type"], [[f.name, str(f.type)] for f in found.schema]),
        *_section("Funnel", ["", "records", "why", "origin"], _funnel(made, counts)),
        *_whole(counts, about),
        *_duplicates(made, counts),
        *_section("Made with", ["what", "digest"], _digests(made, found)),
    ]
    return "\n".join(parts) + "\n"


def _front(made: Mapping[str, Any], found: Exported, about: Mapping[str, Any]) -> Iterator[str]:
    """YAML; text is written as JSON has it, which YAML reads."""
    used = [name for name, (documents, _) in found.counts["source"].items() if documents]
    licenses = sorted({made["sources"][name]["license"].lower() for name in used})
    languages = [name for name in found.counts.get("language", {}) if name]
    size = next((name for most, name in _SIZES if found.documents < most), "100B<n<1T")
    yield from ("---", f"pretty_name: {json.dumps(made['name'])}")
    if licenses:
        yield f"license: {json.dumps(licenses if len(licenses) > 1 else licenses[0])}"
    if languages:
        yield f"language: {json.dumps(languages)}"
    yield from ("task_categories:", "- text-generation", "size_categories:", f"- {size}")
    yield from ("configs:", "- config_name: default", f'  data_files: "data/*{ENDS[about["format"]]}"', "---", "")


def _asked(about: Mapping[str, Any]) -> Iterator[str]:
    if about.get("version"):
        yield f"Version {about['version']} of the corpus."
    if about["where"]:
        asked = f"`{about['where']}`"
        yield f"Of the kept documents, those for which {_cell(asked)}."
    if stages := about.get("augmented"):
        yield f"Among them are texts that were made of documents ({', '.join(stages)}): `origin` is the document's id."


def _section(title: str, header: list[str], rows: list[list[Any]]) -> Iterator[str]:
    if rows:
        yield from (f"## {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}")
        yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)
        yield ""


def _cell(value: Any) -> str:
    """A value in a table of Markdown: one line, which ends at no bar. Outside of code `<` would begin HTML; in code an
    entity would be read as it is written."""
    if isinstance(value, int):
        return f"{value:,}"
    plain, *pieces = printable(" ".join(str(value or "").split())).replace("|", "\\|").split("`")
    found = plain.replace("<", "&lt;")
    for number, piece in enumerate(pieces, 1):
        coded = number % 2 and number < len(pieces)
        found += "`" + (piece if coded else piece.replace("<", "&lt;"))
    return found


def _sources(made: Mapping[str, Any], found: Exported) -> list[list[Any]]:
    sources = made["sources"]
    return [
        [name, sources[name]["kind"], sources[name]["license"], *counted]
        for name, counted in found.counts["source"].items()
    ]


def _counted(found: Exported, group: str) -> list[list[Any]]:
    values = found.counts.get(group, {})
    return [[named(name or None), *values[name]] for name in sorted(values, key=lambda name: (-values[name][0], name))]


def _funnel(made: Mapping[str, Any], counts: Mapping[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["records", counts["in"], "", ""]]
    for reason, number in counts["dropped"].items():
        rule = made["rules"].get(reason)
        why = OWN.get(reason, "left out in reading")
        if rule:
            why = f"`{rule['drop']}`" + (f" where `{rule['where']}`" if rule["where"] else "")
        rows.append([f"dropped: {reason}", number, why, _public(rule["origin"]) if rule else ""])
    for reason, number in counts["quarantined"].items():
        rows.append([f"quarantined: {reason}", number, "it could not be worked on", ""])
    if counts["pending"]:
        rows.append(["pending", counts["pending"], "not judged yet", ""])
    return [*rows, ["kept", counts["kept"], "", ""]]


def _whole(counts: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    """Of an export of a part, that funnel and duplicates are not of that part alone."""
    if about["where"]:
        whole = f"version {about['version']}" if about.get("version") else "corpus"
        kept = plural(counts["kept"], "kept document")
        yield from (f"Funnel and duplicates are those of the whole {whole}; this export is a part of its {kept}.", "")


def _public(origin: str) -> str:
    """Where a rule is from, the paper and the line of a file, without the folders that this was in when it was read."""
    paper, bracket, place = origin.rpartition(" (")
    return f"{paper}{bracket}{place.rpartition('/')[2]}"


def _duplicates(made: Mapping[str, Any], counts: Mapping[str, Any]) -> Iterator[str]:
    settings = made["duplicates"]
    removed = counts["dropped"].get("duplicate", 0)
    threshold, missed = f"{settings['threshold']:g}", settings.get("missed")
    unseen = "a share of those right there is missed"  # an earlier version noted none
    if missed is not None:
        unseen = f"{percent(missed)} of those right at {threshold} are missed, fewer above"
    per, apart = settings.get("per"), ""
    if per:
        apart = f". They are looked for among documents of the same {', '.join(per)}: copies of others stay"
    yield from (
        "## Duplicates",
        "",
        "Exact copies are alike, and so are documents whose shingles have a Jaccard similarity of "
        f"{threshold} or more{apart}. Such pairs are found by signatures of their shingles: {unseen}, so a few "
        "documents that stay may be as similar. Of a cluster those stay that no other one that stays is known to be "
        f"alike to, chosen by {', '.join(settings['keep'])}. "
        f"{plural(removed, 'document')} went.",
        "",
    )


def _digests(made: Mapping[str, Any], found: Exported) -> list[list[Any]]:
    """What names the values: the export's identity, the fingerprints of documents and stages, and what is pinned."""
    rows: list[list[Any]] = [["this export; of each file `export.json` has the XXH3-64", f"`{found.identity}`"]]
    rows += [[name, f"`{fingerprint}`"] for name, fingerprint in made["fingerprints"].items()]
    for name, pin in made["pins"].items():
        rows.append([f"learned: {name}" + (f", {pin['without']}" if pin["without"] else ""), f"`{pin['sha256']}`"])
    if found.left_out:
        names = ", ".join(found.left_out[:20]) + (", ..." if found.left_out[20:] else "")
        rows.append([f"without {plural(len(found.left_out), 'quarantined shard')}: {names}", ""])
    return rows
