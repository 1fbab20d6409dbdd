"""Progress bars in a notebook. All bars of a cell share one display, which is updated, and emptied when the cell ends.

Text on standard error would stay in the notebook: the next print of the cell starts another output, and the characters
that blank the bar go there. But a display with an identifier can be updated wherever it is. That is a part of the
kernel's protocol (`display_data`, `update_display_data`). So neither tqdm nor ipywidgets is needed, and it works the
same in JupyterLab, Notebook and VS Code.

The display is empty at first, and only updates have contents. So a front end that does not support updates, such as
`jupyter console`, shows nothing instead of a bar that never moves.
"""

import html
import secrets
import sys
from typing import Any

from pconnect.loop.progress import Pace, ProgressBar
from srp_tools.printable import printable_name

# Output that takes no space. For output without data, `nbconvert` would report that it cannot represent it.
_NOTHING = {"text/plain": "", "text/html": ""}
_BLANK = "<div>&nbsp;</div>"
_displays: dict[str, "_CellDisplay"] = {}  # by cell; the displays that may still have bars


class NotebookBar:
    """One line in the display of the current cell.

    `shell`: from `shell_of_kernel`. `waited`: seconds that have passed already.
    """

    step = 0.25  #: seconds between updates

    def __init__(self, shell: Any, progress: ProgressBar, waited: float) -> None:
        self._shell = shell
        self._progress = progress
        self._pace = Pace(progress, waited)
        self._display: _CellDisplay | None = None
        self.line = ""  #: the line as text
        self.markup = ""  #: the same in HTML

    def draw(self) -> None:
        """Show the progress."""
        done = self._progress.done()
        self.line = printable_name(self._pace.describe(done))
        meter = f'<progress value="{done}" max="{self._progress.total}"></progress>'
        self.markup = f"<div>{meter} {html.escape(self.line)}</div>"
        display = _display_of(self._shell)
        if display is not self._display:  # the results of one `map` may be read in several cells
            self.close()
            self._display = display
            display.bars.append(self)
        display.draw()

    def make_room(self) -> None:
        """Do nothing: a notebook's bar does not disturb other output."""

    def close(self) -> None:
        """Remove the bar."""
        display, self._display = self._display, None
        if display is not None and self in display.bars:
            display.bars.remove(self)
            display.draw()


class _CellDisplay:
    """The display of one cell.

    While the cell runs, lines that were once used stay reserved, so that the output below does not jump up and down
    with each wait. If the cell calls `clear_output`, the front end drops the display, and the next bar makes another.
    """

    def __init__(self, shell: Any, cell: str) -> None:
        self.bars: list[NotebookBar] = []
        self._shell = shell
        self._cell = cell
        self._identifier = secrets.token_hex(8)
        self._lines = 0
        self._shown: dict[str, str] = {}
        self._is_cleared_by_next = False
        self._publish({}, update=False)
        shell.display_pub.register_hook(self._hear)
        shell.events.register("post_execute", self._after_cell)

    def draw(self) -> None:
        """Update the display with all bars."""
        bars = list(self.bars)
        self._lines = max(self._lines, len(bars))
        lines = [bar.markup for bar in bars] + [_BLANK] * (self._lines - len(bars))
        self._show({"text/plain": "\n".join(bar.line for bar in bars), "text/html": "".join(lines)})

    def _after_cell(self) -> None:
        """Empty the display when the cell ends, unless a thread of the user still waits."""
        if self.bars and _current_cell(self._shell) != self._cell:
            return
        self._shell.events.unregister("post_execute", self._after_cell)
        self._shell.display_pub.unregister_hook(self._hear)
        self._forget()
        self._show(_NOTHING)

    def _hear(self, message: Any) -> Any:
        """Watch the messages that the cell publishes, which are all but printed text. A hook of the publisher."""
        match message["header"]["msg_type"]:
            case "clear_output" if message["content"]["wait"]:
                self._is_cleared_by_next = True
            case "clear_output":
                self._forget()
            case "display_data" if self._is_cleared_by_next:
                self._forget()
        return message

    def _forget(self) -> None:
        if _displays.get(self._cell) is self:
            del _displays[self._cell]
        self.bars.clear()

    def _show(self, data: dict[str, str]) -> None:
        if data != self._shown:
            self._shown = data
            self._publish(data, update=True)

    def _publish(self, data: dict[str, str], *, update: bool) -> None:
        self._shell.display_pub.publish(
            data, metadata={}, transient={"display_id": self._identifier}, update=update
        )


def shell_of_kernel() -> Any:
    """Return the shell if this process is a Jupyter kernel, otherwise ``None``, also for IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None or not hasattr(shell.display_pub, "register_hook"):
        return None  # not the shell of ipykernel
    return shell


def _display_of(shell: Any) -> _CellDisplay:
    cell = _current_cell(shell)
    if cell not in _displays:
        _displays[cell] = _CellDisplay(shell, cell)
    return _displays[cell]


def _current_cell(shell: Any) -> str:
    return str(shell.get_parent().get("header", {}).get("msg_id"))
