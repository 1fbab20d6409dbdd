"""Find the error messages of the packages in their source text, and the entries of the troubleshooting pages.

A message is the text of an exception, a warning, an argparse error or ``sys.exit``, a text printed on standard error,
or a reason that a server sends and the client puts into an error. Parts that are known only when the program runs are
shown as ``…``. Texts are followed into constants, local variables and functions, also those that a module imports from
the same packages.
"""

import ast
import collections.abc
import dataclasses
import functools
import re
import typing
from pathlib import Path

HOME = Path(__file__).parents[2]
PACKAGES = ("srp_tools", "pconnect", "pserver")
#: Text that is known only when the program runs.
GAP = "…"
#: Shorter texts, such as ``…: …``, only join messages that are found elsewhere.
_MIN_LETTERS = 4
_DEPTH = 5

#: Functions that return reasons: servers send them to clients, which show them in an error.
_REASONS = re.compile(
    r"why|refus|reason|weakness|hint|expiry|removal|sharing|no_users|no_folder|missing_users|not_started|_judge|pass_on"
    r"|_shortage|_with_remedy|^describe|_unknown|_advice|^outcome$|set_by|^_words$|^keep$|^_who$|^cannot_listen$"
)
_REASON = "reason"
_PRINTED = "printed"
_MIN_WORDS = 4
#: Exceptions that say nothing to users: bugs in the tests' and the library's own eyes.
_INTERNAL = {"AssertionError", "NotImplementedError", "StopIteration"}


@dataclasses.dataclass(frozen=True)
class Message:
    """A message, the class of the exception that has it, and one place where the source makes it."""

    kind: str
    text: str
    place: str

    def row(self) -> str:
        """Return a row for a table of the troubleshooting pages, to be completed by hand."""
        quotes = "``" if "`" in self.text else "`"
        return f"| {quotes}{self.text}{quotes} | cause | what to do |   ({self.kind}, {self.place})"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One message of a troubleshooting page: its text with ``…``, perhaps after the class of the exception."""

    text: str
    place: str

    def matches(self, message: Message) -> bool:
        """Return whether this entry explains a message."""
        kind, text = _parts(self.text)
        return kind in ("", message.kind) and bool(_pattern(text).fullmatch(message.text))

    def is_vague(self) -> bool:
        """Return whether the entry would match nearly everything."""
        kind, text = _parts(self.text)
        return not kind and _letters(text) < _MIN_LETTERS


@functools.cache
def _parts(text: str) -> tuple[str, str]:
    """Return the class of an entry, or "", and its text."""
    found = re.fullmatch(r"(\w*(?:Error|Warning|Failure)): (.*)", text)
    return (found[1], found[2]) if found else ("", text)


@functools.cache  # that of `re` is too small
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split(GAP)))


def _letters(text: str) -> int:
    return len(re.sub(r"[^A-Za-z]", "", text))


def read_entries(path: Path) -> collections.abc.Iterator[Entry]:
    """Yield the entries of a page: the code in the first column of its tables that explain messages."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) == 5 and cells[1].strip().startswith("`"):
            for _, code in re.findall(r"(`+)(.+?)\1(?!`)", cells[1]):
                yield Entry(code.replace("\\|", "|").strip(), f"{path.name}:{number}")


def find_messages(packages: collections.abc.Iterable[str] = PACKAGES) -> list[Message]:
    """Return the messages of packages, each text of a class once, in the order of the source."""
    found: dict[tuple[str, str], Message] = {}
    for package in packages:
        for path in sorted((HOME / package).rglob("*.py")):
            for message in _module(path).messages():
                found.setdefault((message.kind, message.text), message)
    return list(found.values())


def messages_of(tree: ast.Module, place: str) -> collections.abc.Iterator[Message]:
    """Yield each message that a module makes."""
    yield from _Module(tree, place).messages()


@functools.cache
def _module(path: Path) -> "_Module":
    return _Module(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(HOME).as_posix())


class _Module:
    """One module: its constants and functions, and the texts that they give to errors."""

    def __init__(self, tree: ast.Module, place: str) -> None:
        self._place = place
        self._tree = tree
        self._functions = {n.name: n for n in ast.walk(self._tree) if isinstance(n, ast.FunctionDef)}
        self._constants = _assigned(self._tree.body)
        self._imports = dict(_imports(self._tree))

    def messages(self) -> collections.abc.Iterator[Message]:
        """Yield each message that the module makes."""
        yield from self._in(self._tree, {})

    def _in(self, node: ast.AST, local: dict[str, list[ast.expr]]) -> collections.abc.Iterator[Message]:
        if isinstance(node, ast.FunctionDef):
            local = {**local, **_assigned(list(ast.walk(node)))}
            if _REASONS.search(node.name):
                yield from self._of_reasons(node)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and _is_error(node.elts[0]):
            yield from self._made(_REASON, node.elts[1], local)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and not _kind(node.exc):
            yield from self._of_call(node.exc, _last_name(node.exc.func), local)
        elif isinstance(node, ast.Call) and _kind(node):
            yield from self._of_call(node, _kind(node), local)
        for child in ast.iter_child_nodes(node):
            yield from self._in(child, local)

    def _of_call(
        self, call: ast.Call, kind: str, local: dict[str, list[ast.expr]]
    ) -> collections.abc.Iterator[Message]:
        if kind in _INTERNAL:
            return
        for argument in call.args:
            yield from self._made(kind, argument, local)

    def _of_reasons(self, function: ast.FunctionDef) -> collections.abc.Iterator[Message]:
        local = _assigned(list(ast.walk(function)))
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                for message in self._made(_REASON, node.value, local):
                    if len(re.findall("[a-z]+", message.text)) >= _MIN_WORDS:
                        yield message

    def _made(
        self, kind: str, expression: ast.expr, local: dict[str, list[ast.expr]]
    ) -> collections.abc.Iterator[Message]:
        for text in self._texts(expression, local, _DEPTH):
            plain = re.sub(r"\s+", " ", re.sub(f"(?:{GAP})+", GAP, text)).strip()
            if kind == _PRINTED:  # after the name of the program
                plain = re.sub(r"^[\w-]+: (?:warning: )?", "", plain, flags=re.IGNORECASE)
            if _letters(plain) >= _MIN_LETTERS and " " in plain:
                yield Message(kind, plain, f"{self._place}:{expression.lineno}")

    def _texts(self, node: ast.expr, local: dict[str, list[ast.expr]], depth: int) -> list[str]:
        """Return the texts that an expression can have; none if it has no text that the source shows."""
        choices: list[ast.expr] = []
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr():
                return _product([self._part(value, local, depth) for value in node.values])
            case _ if not depth:
                choices = []
            case ast.BinOp(op=ast.Add()):
                return _product(
                    [self._texts(side, local, depth - 1) or [GAP] for side in (node.left, node.right)]
                )
            case ast.Call():
                return self._of_function(node, local, depth)
            case ast.Name():
                choices = local.get(node.id, self._constants.get(node.id, []))
                if not choices and node.id in self._imports:
                    return _module(self._imports[node.id])._texts(node, {}, depth - 1)
            case ast.IfExp():
                choices = [node.body, node.orelse]
            case ast.BoolOp() | ast.Dict():
                choices = list(node.values)
            case ast.Subscript():
                choices = [node.value]
        return [text for choice in choices for text in self._texts(choice, local, depth - 1)]

    def _part(self, value: ast.expr, local: dict[str, list[ast.expr]], depth: int) -> list[str]:
        """Return the text of one part of an f-string; a name has its text if it has only one."""
        if isinstance(value, ast.Constant):
            return [str(value.value)]
        if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name) and depth:
            assigned = local.get(value.value.id, self._constants.get(value.value.id, []))
            if len(assigned) == 1 and isinstance(assigned[0], ast.JoinedStr | ast.Constant):
                return self._texts(assigned[0], local, depth - 1)[:1] or [GAP]
        return [GAP]

    def _of_function(self, call: ast.Call, local: dict[str, list[ast.expr]], depth: int) -> list[str]:
        """Return the texts that a call returns: of a function of this module, of ``join`` or of ``format``."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "format":
            return [
                re.sub(r"\{[^{}]*\}", GAP, text) for text in self._texts(call.func.value, local, depth - 1)
            ]
        if isinstance(call.func, ast.Attribute) and call.func.attr == "join" and call.args:
            (listed,) = call.args[:1]
            items = listed.elts if isinstance(listed, ast.List | ast.Tuple) else []
            return [text for item in items for text in self._texts(item, local, depth - 1)]
        function = self._functions.get(_last_name(call.func))
        if function is None:
            other = self._imports.get(_last_name(call.func))
            return _module(other)._of_function(call, {}, depth - 1) if other and depth else []
        theirs = _assigned(list(ast.walk(function)))
        returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
        return [text for value in returned for text in self._texts(value, theirs, depth - 1)]


def _kind(call: ast.Call) -> str:
    """Return the class of the exception that a call makes, or the function that ends the program with a text."""
    name = _last_name(call.func)
    written = ast.unparse(call.func)
    to_stderr = any(key.arg == "file" and ast.unparse(key.value) == "sys.stderr" for key in call.keywords)
    if written == "sys.stderr.write" or (written == "print" and to_stderr):
        return _PRINTED
    if written in ("sys.exit", "warnings.warn", "SystemExit") or written.endswith(
        ("parser.error", "self.error")
    ):
        return name
    if re.fullmatch(r"_?[A-Z]\w*(Error|Warning|Failure)|_RunsHere|(make)?_error", name):
        return name
    return ""


def _is_error(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.endswith("Error")


def _imports(tree: ast.Module) -> collections.abc.Iterator[tuple[str, Path]]:
    """Yield the names that a module imports from other modules of the packages, with the files of those."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            path = HOME / f"{str(node.module).replace('.', '/')}.py"
            if path.exists():
                yield from ((alias.asname or alias.name, path) for alias in node.names)


def _last_name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _assigned(body: collections.abc.Sequence[ast.AST]) -> dict[str, list[ast.expr]]:
    """Return the expressions that are assigned to each name."""
    found: dict[str, list[ast.expr]] = {}
    for node in body:
        if (
            isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
            and node.value is not None
        ):
            targets: typing.Any = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _product(parts: list[list[str]]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [text + more for text in texts for more in part]
    return texts
