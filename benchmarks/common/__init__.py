"""What all benchmarks share: where a number comes from, timing in turns, tables, the cells that are timed."""
