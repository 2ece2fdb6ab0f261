"""One training run: what a task means, the loop, its state, checkpoints, optimizer, devices and input."""
