"""The command line.

Errors are one line with the remedy. Exit codes: 0 done, 1 failed, 2 asked for wrongly.
"""

from collections.abc import Sequence

import click

from plumbline import __version__
from streams.cli import check, compare, demo, replay, run, topics

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="plumbline")
def plumbline() -> None:
    r"""Watch the alignment of AI products in production.

    \b
    Start here:
      plumbline demo               a seeded regression is caught, paged, rolled back and verified
      plumbline run                take interactions in at http://127.0.0.1:8321/v1/interactions
      plumbline replay FILE        score recorded interactions and see what moved
      plumbline check FILE         is this configuration right?
    """


for command in (
    run.run,
    demo.demo,
    replay.replay,
    compare.compare,
    check.check,
    check.schema,
    check.components,
    topics.topics,
):
    plumbline.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    plumbline.main(args=list(arguments) if arguments is not None else None, prog_name="plumbline")
