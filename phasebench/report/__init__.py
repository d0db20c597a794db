"""The outputs of a run, for people and for programs: tables, results file, report, figures; without torch."""
