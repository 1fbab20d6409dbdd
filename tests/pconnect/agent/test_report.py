from pconnect.agent.report import Report


def test_it_counts_by_program_and_place() -> None:
    report = Report()
    report.add("gcc", "alpha", failed=False)
    report.add("gcc", "alpha", failed=True)
    report.add_here("gcc", "no server can be reached")
    assert [list(row) for row in report.table()] == [
        ["gcc", "alpha", 2, 1, ""],
        ["gcc", "here", 1, None, "no server can be reached"],
    ]
