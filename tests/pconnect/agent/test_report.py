from pconnect.agent.report import Report


def test_it_does_not_grow_without_end() -> None:
    report = Report()
    for number in range(2000):
        report.add_here("gcc", f"reason {number}")
        report.add(f"program {number}", "alpha", failed=True)
    assert len(report.table()) <= 502
    assert ["other programs", "here", 1750, None, "other reasons"] in [list(row) for row in report.table()]


def test_it_counts_by_program_and_place() -> None:
    report = Report()
    report.add("gcc", "alpha", failed=False)
    report.add("gcc", "alpha", failed=True)
    report.add_here("gcc", "no server\n  can be reached")
    assert [list(row) for row in report.table()] == [
        ["gcc", "alpha", 2, 1, ""],
        ["gcc", "here", 1, None, "no server can be reached"],
    ]
