"""Tables as HTML: heads with scopes, groups of columns, keys to sort by."""

import html
import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table."""

    title: str
    group: str = ""
    """Neighbours of one group share a head above theirs."""
    numeric: bool = True


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    key: float | str | None = None
    """What it is sorted by, None last; only used in tables that can be sorted."""
    strong: bool = False
    muted: bool = False


class Table(NamedTuple):
    """A table; the first cell of each row is the row's head."""

    name: str
    """Unique in the page, letters only."""
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    sortable: bool = False
    strong_row: int | None = None
    """The row to which the others are compared."""


def table_html(table: Table) -> str:
    """The table in a frame that scrolls sideways by itself, also by keyboard.

    >>> table = Table("t", "", [Column("x", numeric=False), Column("y")], [[Cell("<a>"), Cell("1.0")]])
    >>> '<th scope="row">&lt;a&gt;</th><td class="num">1.0</td>' in table_html(table)
    True
    """
    head = ""
    if any(column.group for column in table.columns):
        groups = [(g, len(list(members))) for g, members in itertools.groupby(c.group for c in table.columns)]
        head = "".join(
            f'<th scope="colgroup" colspan="{span}" class="group">{html.escape(group)}</th>'
            if group
            else f'<td colspan="{span}"></td>'
            for group, span in groups
        )
        head = f"<tr>{head}</tr>"
    starts = [i > 0 and c.group != table.columns[i - 1].group for i, c in enumerate(table.columns)]
    titles = ""
    for column, start in zip(table.columns, starts, strict=True):
        title = html.escape(column.title)
        inner = f'<button type="button">{title}</button>' if table.sortable else title
        titles += f'<th scope="col"{_classes(num=column.numeric, start=start)}>{inner}</th>'
    rows = ""
    for number, row in enumerate(table.rows):
        cells = ""
        for at, (column, cell, start) in enumerate(zip(table.columns, row, starts, strict=True)):
            tag, scope = ("th", ' scope="row"') if at == 0 else ("td", "")
            key = "" if cell.key is None else html.escape(str(cell.key))
            sort = f' data-key="{key}"' if table.sortable else ""
            classes = _classes(num=column.numeric, start=start, strong=cell.strong, muted=cell.muted)
            cells += f"<{tag}{scope}{classes}{sort}>{html.escape(cell.text)}</{tag}>"
        rows += f"<tr{_classes(reference=number == table.strong_row)}>{cells}</tr>"
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        # Not a caption element, which would scroll sideways with the table.
        f'<p class="caption" id="caption-{table.name}">{html.escape(table.caption)}</p>'
        f'<div class="frame" tabindex="0" role="region" aria-labelledby="caption-{table.name}">'
        f'<table id="{table.name}"{_classes(sortable=table.sortable)} aria-labelledby="caption-{table.name}">'
        f"<thead>{head}<tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _classes(**flags: bool) -> str:
    names = " ".join(name for name, on in flags.items() if on)
    return f' class="{names}"' if names else ""
