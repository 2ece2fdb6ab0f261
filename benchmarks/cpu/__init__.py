"""The parts of `cpu_lstm.py` and `cpu_fit.py`: cells, sides, memory, tables and picture."""
