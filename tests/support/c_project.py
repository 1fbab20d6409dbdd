"""A C project with a Makefile, to compile on several machines."""

from pathlib import Path

SOURCE = """\
#include <stdio.h>
#include <string.h>
#include "common.h"
#include "group{group}.h"
#define NAME "module {number}"

struct state_{number} {{ struct item items[{size}]; double sum; const char *where; }};

static double mean(const struct item *items, int count)
{{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += items[i].weight * WEIGHT_{group} + items[i].value;
    return sum / count;
}}

int module_{number}(struct state_{number} *state)
{{
    CHECK(state->sum >= 0);
    state->sum += mean(state->items, {size});
    state->where = NAME " of " __FILE__;
    for (int i = 0; i < {size}; i++)
        if (strcmp(state->items[i].name, NAME) == 0)
            return printf("%s: %g\\n", state->where, clamp(state->sum, i));
    return SHIFT(__LINE__, {group});
}}
"""
COMMON = """\
#pragma once
#include <stdlib.h>
struct item { char name[24]; double weight, value; };
#define CHECK(x) \\
    do { if (!(x)) { fprintf(stderr, "%s:%d: %s\\n", __FILE__, __LINE__, #x); abort(); } } while (0)
#define SHIFT(a, b) ((a) << (b))
static inline double clamp(double x, int most) { return x > most ? most : x; }
"""
MAKEFILE = """\
OBJECTS := $(patsubst src/%.c,obj/%.o,$(wildcard src/*.c))
CFLAGS := -g -O1 -Wall -Iinclude -MD
program: $(OBJECTS)
	gcc -shared -o $@ $^
obj/%.o: src/%.c
	@mkdir -p obj
	gcc $(CFLAGS) -fPIC -c $< -o $@
clean:
	rm -rf obj program
"""


def write_project(folder: Path, count: int) -> None:
    """Write a project of `count` source files in two folders with headers."""
    for name in ("src", "include"):
        (folder / name).mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "include" / "common.h").write_text(COMMON)
    for group in range(4):
        header = f'#include "common.h"\n#define WEIGHT_{group} {group + 1}.5\n'
        (folder / "include" / f"group{group}.h").write_text(header)
    for number in range(count):
        text = SOURCE.format(number=number, group=number % 4, size=4 + number)
        (folder / "src" / f"module{number}.c").write_text(text)
