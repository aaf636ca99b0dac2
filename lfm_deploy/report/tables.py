"""One look for every table on a terminal."""

from rich import box
from rich.table import Table


def make_table(title: str, *left_columns: str) -> Table:
    """An empty table without frames, which fits 80 columns more often; its left columns keep to one line."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True)
    table.caption_justify = "left"
    for heading in left_columns:
        table.add_column(heading, no_wrap=True)
    return table
