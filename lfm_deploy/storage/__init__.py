"""Files that are written whole and read back checked, here and in stores: atomic writes, sealed graphs, values."""
