"""The command line.

Errors are one line with the remedy. Exit codes: 0 done, 1 failed, 2 asked for wrongly.
"""

from collections.abc import Sequence

import click

from plumbline import __version__
from streams.cli import (
    backfill,
    check,
    compare,
    deadletters,
    demo,
    detectability,
    evaluate,
    produce,
    reconcile,
    reference,
    replay,
    run,
    topics,
    worker,
)

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="plumbline")
def plumbline() -> None:
    """Watch the alignment of AI products in production.

    \b
    Start here:
      plumbline demo               a seeded regression is caught, paged, rolled back and verified
      plumbline run                take interactions in at http://127.0.0.1:8321/v1/interactions
      plumbline replay FILE        score recorded interactions and see what moved
      plumbline check FILE         is this configuration right?

    \b
    On Kafka:
      plumbline topics create -c FILE
      plumbline produce -c FILE answers.jsonl
      plumbline worker -c FILE --stages admit,score,detect,decide,act,land
      plumbline reconcile -c FILE  is everything there, once?

    Exit codes: 0 done; 1 failed, and one line says why and what to do; 2 asked for wrongly. What else an exit
    code means stands in the command's own --help.
    """  # noqa: D301 - click wants the character itself


for command in (
    run.run,
    demo.demo,
    replay.replay,
    compare.compare,
    check.check,
    check.schema,
    check.components,
    topics.topics,
    worker.worker,
    evaluate.evaluate,
    detectability.detectability_table,
    produce.produce,
    deadletters.deadletters,
    backfill.backfill,
    reconcile.reconcile,
    reference.reference,
):
    plumbline.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    plumbline.main(args=list(arguments) if arguments is not None else None, prog_name="plumbline")
