"""One training run: tasks, the loop, its state, checkpoints, optimizer, devices and input."""
