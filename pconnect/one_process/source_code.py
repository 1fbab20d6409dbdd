"""Compiling the source text of a command, so that tracebacks and debuggers show its lines."""

import ast
import linecache
import types


def compile_source(
    source: str, file_name: str, *, wants_value: bool
) -> tuple[types.CodeType, types.CodeType | None]:
    """Return the code of the statements, and of the last expression if its value is wanted and it has one."""
    tree = ast.parse(source, file_name)
    last = tree.body.pop() if wants_value and tree.body and isinstance(tree.body[-1], ast.Expr) else None
    expression = None
    if isinstance(last, ast.Expr):
        expression = compile(ast.Expression(last.value), file_name, "eval", dont_inherit=True)
    codes = compile(tree, file_name, "exec", dont_inherit=True), expression
    # A traceback marks the wrong place in a line without its end.
    lines = f"{source}\n".splitlines(keepends=True)
    linecache.cache[file_name] = (len(source), None, lines, file_name)
    return codes
