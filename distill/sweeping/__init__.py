"""The parts of a sweep: folds, rows, maps, cells, choices, the one look at the test rows."""
