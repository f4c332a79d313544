"""`sluice export-model`: a checkpoint as a Hugging Face folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command("export-model")
@reading
@click.argument("to")
@click.option("--run", "name", metavar="NAME", help="Another training than that of SPEC as it stands.")
@click.option("--step", type=click.IntRange(min=1), help="The checkpoint of this step, or the newest before it.")
def export_model(current: Run, to: str, name: str | None, step: int | None, as_json: bool) -> None:
    """Write a checkpoint of SPEC's training to the folder or URL TO, with its tokenizer.

    `AutoModelForCausalLM` (a BERT `AutoModelForMaskedLM`, a T5 `AutoModelForSeq2SeqLM`) and `AutoTokenizer` load it. TO
    must hold no files.
    """
    from data_specs.amounts import plural
    from data_specs.load import SpecError
    from flows.commands import export_records, trainings
    from tasks.storage.store import Store
    from training import export, frozen

    into = Store(to)
    if into.list(""):
        raise SpecError([f"export-model: {to} holds files; name a folder that is empty, or new"])
    training = trainings.training(current, name)
    chosen = frozen.step_at(current.store, training.name, step)
    tokenizer = trainings.tokenizer(current, training)
    sizes = export.write(
        current.store, training.spec, training.plan, training.name, chosen, tokenizer, (into, ""), new=True
    )
    export_records.note(
        current.store,
        into,
        f"{training.name}@{chosen}",
        {"spec": current.spec.name, "run": training.name, "step": chosen},
    )
    if as_json:
        print_json({"run": training.name, "step": chosen, "to": to, "files": sizes})
    else:
        checkpoint = trainings.checkpoint_name(training.name, chosen, step)
        click.echo(f"{checkpoint}: {plural(len(sizes), 'file')}, {plural(sum(sizes.values()), 'byte')} in {to}")
