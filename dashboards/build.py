"""Write the boards' JSON: ``python -m dashboards.build``."""

from pathlib import Path

from dashboards import overview
from dashboards.grafana import Board, to_json

BOARDS: tuple[Board, ...] = (overview.BOARD,)
BUILT = Path(__file__).parent / "built"


def built_files() -> dict[str, str]:
    """Return the text of every generated file by its name.

    Examples
    --------
    >>> sorted(built_files())
    ['overview.json']
    """
    return {f"{board.uid.removeprefix('plumbline-')}.json": to_json(board) for board in BOARDS}


def main() -> None:
    """Write every board into ``dashboards/built``."""
    BUILT.mkdir(exist_ok=True)
    for name, text in built_files().items():
        (BUILT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
