"""The parts of `gpu_lstm.py` and `gpu_checks.py`: plan, sides, timing, tables, picture; jobs and their logs."""
