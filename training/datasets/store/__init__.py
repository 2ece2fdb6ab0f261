"""How datasets lie on the disk: prepared by TFDS, row by row, as raw files, or brought from another machine."""
