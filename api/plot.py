"""Edge: what all pictures share: a canvas without a screen, one style, saving, one error without the library."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.client_http import Failure
from api.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (3.6, 2.5)
"""Width and height of one panel."""
COLOURS = ("#1f6feb", "#d1621f", "#2e8b57", "#8250df", "#b8860b", "#c2185b", "#57606a", "#0e7490")
OURS, CAME, SEEN = COLOURS[0], "#111111", "#8c959f"
"""What is ours, what came, and what had been seen."""
KINDS = (".png", ".svg", ".pdf")
_STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left", "legend.fontsize": 7, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
    "axes.axisbelow": True, "lines.linewidth": 1.2, "svg.hashsalt": "scaleahead",
}  # fmt: skip


def check(path: Path) -> None:
    """See before any work that a picture can be drawn and where it goes. Raises ``Failure``."""
    _library()
    if path.suffix.lower() not in KINDS:
        raise Failure(
            f"--plot {plain(path)} is no picture's name - end it in {', '.join(KINDS[:-1])} or {KINDS[-1]}", 2
        )
    if not path.absolute().parent.is_dir():
        raise Failure(f"--plot {plain(path)} is in a folder that is not there - make it, or name another file", 2)


@contextmanager
def panels(path: Path, rows: int, columns: int, title: str) -> Iterator[Sequence["Axes"]]:
    """Open a picture of ``rows x columns`` panels, read by rows, and write it at the end. Raises ``Failure``.

    Panels that were not drawn on are taken out. Draws on its own canvas: nothing of the process's matplotlib changes.
    """
    check(path)
    matplotlib = _library()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # optional extra, slow to import
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(INCHES[0] * columns, INCHES[1] * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(plain(title), fontsize=9, x=0.01, ha="left")
        axes = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
        yield axes
        for one in axes:
            if not one.has_data():
                one.remove()
        try:
            figure.savefig(path, dpi=150, metadata={"Software": None} if path.suffix.lower() == ".png" else None)
        except OSError as error:
            raise Failure(f"{plain(path)} cannot be written ({error.strerror or error}) - name another file") from None


def _library() -> Any:
    try:
        import matplotlib  # optional extra, slow to import
    except ImportError:
        raise Failure("--plot needs matplotlib - install the extra: pip install 'scaleahead-daemon[plot]'", 2) from None
    return matplotlib
