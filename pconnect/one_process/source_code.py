"""Compiles the source text of a command so that tracebacks and debuggers show its lines."""

import ast
import linecache
import types


def compile_source(
    source: str, file_name: str, *, wants_value: bool
) -> tuple[types.CodeType, types.CodeType | None]:
    """Return the code of the statements, and of a last expression if its value is wanted."""
    tree = ast.parse(source, file_name)
    last = tree.body.pop() if wants_value and tree.body and isinstance(tree.body[-1], ast.Expr) else None
    expression = None
    if isinstance(last, ast.Expr):
        expression = compile(ast.Expression(last.value), file_name, "eval", dont_inherit=True)
    codes = compile(tree, file_name, "exec", dont_inherit=True), expression
    # Without a newline at the end of a line, tracebacks mark the wrong place in it.
    lines = f"{source}\n".splitlines(keepends=True)
    linecache.cache[file_name] = (len(source), None, lines, file_name)
    return codes
