"""`sluice sample`: what a trained model goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.argument("prompt")
@click.option("--run", "name", metavar="NAME", help="Another training than that of SPEC as it stands.")
@click.option("--step", type=click.IntRange(min=1), help="The checkpoint of this step, or the newest before it.")
@click.option("--tokens", type=click.IntRange(1, 100_000), default=64, show_default=True, help="At most so many.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Continuations.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.8, show_default=True, help="0: the likeliest.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def sample(
    current: Run,
    prompt: str,
    name: str | None,
    step: int | None,
    tokens: int,
    count: int,
    temperature: float,
    top_p: float,
    seed: int,
    as_json: bool,
) -> None:
    """Let a checkpoint of SPEC's training go on with PROMPT; an empty one begins a document."""
    from flows import terminal
    from flows.commands import trainings
    from training import frozen
    from training.sample import Sampling
    from training.sample import sample as sampled

    training = trainings.training(current, name)
    chosen = frozen.step_at(current.store, training.name, step)
    how = Sampling(tokens, count, temperature, top_p, seed)
    texts = sampled(
        current.store,
        training.spec,
        training.plan,
        training.name,
        chosen,
        trainings.tokenizer(current, training),
        prompt,
        how,
    )
    if as_json:
        print_json({"run": training.name, "step": chosen, "prompt": prompt, "texts": texts})
    else:
        terminal.samples(trainings.checkpoint_name(training.name, chosen, step), prompt, texts)
