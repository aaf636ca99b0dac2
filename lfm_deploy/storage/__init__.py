"""Files that are written whole and read back checked: atomic writes, sealed graphs, validated values; files in stores."""
