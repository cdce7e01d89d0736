"""One file a golden file: differences(case, path) -> names of the arrays that differ."""
