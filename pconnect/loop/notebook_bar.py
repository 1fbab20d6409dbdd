"""Progress bars in a notebook: all bars of a cell are one display, which is updated and at the end of the cell empty.

What is written to standard error would stay in the notebook: the next print of the cell ends that piece of output, and
what blanks the bar goes to another piece. A display with an identifier is changed wherever it stands. That is a part of
the kernel's protocol (`display_data`, `update_display_data`), so neither tqdm nor ipywidgets is needed, and JupyterLab,
Notebook and VS Code make no difference.

The display begins empty, and only updates have a content: a front end that knows no updates, such as `jupyter console`,
shows nothing then, instead of a bar that never moves.
"""

import html
import secrets
import sys
from typing import Any

from pconnect.loop.progress import Pace, ProgressBar
from srp_tools.printable import printable_name

# What takes no room. Of an output without any data `nbconvert` would say that it cannot be represented.
_NOTHING = {"text/plain": "", "text/html": ""}
_BLANK = "<div>&nbsp;</div>"
_displays: dict[str, "_CellDisplay"] = {}  # by the cell, whose display is not empty for good


class NotebookBar:
    """One line in the display of the cell that runs.

    `shell`: of `shell_of_kernel`. `waited`: so many seconds have passed already.
    """

    step = 0.25  #: so often, in seconds, it is brought up to date

    def __init__(self, shell: Any, progress: ProgressBar, waited: float) -> None:
        self._shell = shell
        self._progress = progress
        self._pace = Pace(progress, waited)
        self._display: _CellDisplay | None = None
        self.line = ""  #: as text
        self.markup = ""  #: the same in HTML

    def draw(self) -> None:
        """Show how far it is."""
        done = self._progress.done()
        self.line = printable_name(self._pace.describe(done))
        meter = f'<progress value="{done}" max="{self._progress.total}"></progress>'
        self.markup = f"<div>{meter} {html.escape(self.line)}</div>"
        display = _display_of(self._shell)
        if display is not self._display:  # the results of a `map` may be taken in several cells
            self.close()
            self._display = display
            display.bars.append(self)
        display.draw()

    def make_room(self) -> None:
        """Do nothing: it is in nobody's way."""

    def close(self) -> None:
        """Leave nothing behind."""
        display, self._display = self._display, None
        if display is not None and self in display.bars:
            display.bars.remove(self)
            display.draw()


class _CellDisplay:
    """The display of one cell.

    As long as the cell runs, lines that were there once stay free, so that what is below does not jump up and down at
    each of many waits. If the cell calls `clear_output`, the front end forgets the display; the next bar makes another.
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
        """Show all bars."""
        bars = list(self.bars)
        self._lines = max(self._lines, len(bars))
        lines = [bar.markup for bar in bars] + [_BLANK] * (self._lines - len(bars))
        self._show({"text/plain": "\n".join(bar.line for bar in bars), "text/html": "".join(lines)})

    def _after_cell(self) -> None:
        """End with the cell, however that ended: nothing is left, unless a thread of the user's still waits."""
        if self.bars and _current_cell(self._shell) != self._cell:
            return
        self._shell.events.unregister("post_execute", self._after_cell)
        self._shell.display_pub.unregister_hook(self._hear)
        self._forget()
        self._show(_NOTHING)

    def _hear(self, message: Any) -> Any:
        """Look at what the cell publishes, which is all but what it prints; a hook of the publisher."""
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
    """Return the shell of the kernel that this is; ``None`` elsewhere, also at IPython's prompt in a terminal."""
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None or not hasattr(shell.display_pub, "register_hook"):
        return None  # it is not that of ipykernel
    return shell


def _display_of(shell: Any) -> _CellDisplay:
    cell = _current_cell(shell)
    if cell not in _displays:
        _displays[cell] = _CellDisplay(shell, cell)
    return _displays[cell]


def _current_cell(shell: Any) -> str:
    return str(shell.get_parent().get("header", {}).get("msg_id"))
