"""From examples to batches: statistics, length buckets, batches, augmentation, and what is set aside for validation."""
