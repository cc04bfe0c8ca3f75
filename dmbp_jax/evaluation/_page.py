"""The page of a report as HTML."""

import base64
import html
import importlib.resources
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Tables as HTML: heads with scopes, groups of columns, keys to sort by.


class Column(NamedTuple):
    """A column of a table."""

    title: str
    group: str = ""
    """Neighbouring columns of one group have a common head."""
    numeric: bool = True


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    key: float | str | None = None
    """The sort key, None last; only used in sortable tables."""
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
    """The table in a frame that scrolls horizontally, also by keyboard.

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


# The page of an evaluation: one HTML file with its style, its script, its numbers and its pictures inside.
#
# Tables are HTML, so that they can be read, printed and searched without a script; curves and the gallery are
# # drawn by `page.js` from data in the page. The page loads no other files, and its security policy forbids
# it.


class DrawnCurve(NamedTuple):
    """One method's curve; its points lie evenly between 0 and 1. None breaks the line."""

    method: str
    points: Sequence[float | None]


class Chart(NamedTuple):
    """The curves of one metric."""

    title: str
    note: str
    x_label: str
    y_label: str
    curves: Sequence[DrawnCurve]


class Example(NamedTuple):
    """One explained target of one image."""

    image: str
    target: str
    photo: bytes | None
    """PNG, as all pictures."""
    maps: Mapping[str, bytes]
    """By method."""
    values: Mapping[str, Mapping[str, float | None]]
    """By metric, then by method; None where undefined."""


class Section(NamedTuple):
    """Tables under a heading."""

    name: str
    """Unique in the page, letters only."""
    heading: str
    text: str
    tables: Sequence[Table]


class Report(NamedTuple):
    """The contents of the page; texts are plain text."""

    title: str
    lead: str
    notices: Sequence[str]
    """Notices above the numbers."""
    problems: Sequence[tuple[str, str]]
    """Samples that were left out: name and reason."""
    methods: Mapping[str, str]
    """Their titles by name, in the order of the page."""
    metrics: Mapping[str, str]
    """Their titles by name."""
    reference: str
    """The method that is emphasised."""
    paper: Sequence[Section]
    charts: Sequence[Chart]
    sections: Sequence[Section]
    gallery_note: str
    examples: Sequence[Example]
    facts: Mapping[str, Any]
    """Headings and JSON values: configuration, versions."""
    footer: str


def render_report(report: Report) -> str:
    """The whole page.

    >>> page = render_report(Report("T", "", [], [], {}, {}, "", [], [], [], "", [], {}, "<b>"))
    >>> page.splitlines()[0], "&lt;b&gt;" in page
    ('<!doctype html>', True)
    """
    files = importlib.resources.files("dmbp_jax.evaluation")
    template, style, script = (
        files.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    after = [("curves", "Curves")] if report.charts else []
    contents = [
        *((section.name, section.heading) for section in report.paper),
        *after,
        *((section.name, section.heading) for section in report.sections),
        ("images", "Images"),
        ("configuration", "Configuration"),
    ]
    parts = {
        "title": _text(report.title),
        "style": style,
        "script": script,
        "lead": _text(report.lead),
        "notices": "".join(f'<p class="notice">{_text(notice)}</p>' for notice in report.notices)
        + _problems(report.problems),
        "contents": "".join(f'<li><a href="#{name}">{_text(heading)}</a></li>' for name, heading in contents),
        "paper": "".join(map(_section, report.paper)),
        "curves": "" if report.charts else "hidden",
        "sections": "".join(map(_section, report.sections)),
        "gallery_note": _text(report.gallery_note),
        "controls": "" if report.examples else "hidden",
        "facts": "".join(
            f"<h3>{_text(heading)}</h3>{_value(value)}" for heading, value in report.facts.items()
        ),
        "footer": _text(report.footer),
        "data": _json(_data(report)),
        "pictures": _json(_pictures(report)),
    }
    # In one pass, so that inserted text is not mistaken for a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _data(report: Report) -> dict[str, Any]:
    """The script's data, without the pictures."""
    return {
        "reference": report.reference,
        "methods": [{"name": name, "title": title} for name, title in report.methods.items()],
        "metrics": [{"name": name, "title": title} for name, title in report.metrics.items()],
        "charts": [
            {**chart._asdict(), "curves": [curve._asdict() for curve in chart.curves]}
            for chart in report.charts
        ],
        "examples": [
            {
                "image": example.image,
                "target": example.target,
                # Rows for metrics; a method without a row differs from one with an undefined value.
                "values": [
                    [_number(example.values.get(metric, {}), method) for method in report.methods]
                    for metric in report.metrics
                ],
            }
            for example in report.examples
        ],
    }


def _number(values: Mapping[str, float | None], method: str) -> float | str | None:
    """The value to six digits, None where undefined, "" where not measured."""
    if method not in values:
        return ""
    value = values[method]
    return None if value is None else float(f"{value:.6g}")


def _pictures(report: Report) -> dict[str, Any]:
    """The pictures, which the script parses when the gallery is scrolled to; each photograph once."""
    photos = {example.image: example.photo for example in report.examples if example.photo is not None}
    return {
        "photos": {image: _base64(png) for image, png in photos.items()},
        "maps": [
            [_base64(example.maps[method]) if method in example.maps else None for method in report.methods]
            for example in report.examples
        ],
    }


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end an HTML script element: every `<` is escaped."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _text(text: str) -> str:
    return html.escape(text)


def _problems(problems: Sequence[tuple[str, str]]) -> str:
    if not problems:
        return ""
    count = f"{len(problems)} sample{'s' if len(problems) > 1 else ''} could not be used"
    items = "".join(f"<li><code>{_text(name)}</code> {_text(reason)}</li>" for name, reason in problems)
    return f'<details class="notice"><summary>{count}</summary><ul>{items}</ul></details>'


def _section(section: Section) -> str:
    text = f"<p>{_text(section.text)}</p>" if section.text else ""
    tables = "".join(map(table_html, section.tables))
    return f'<section id="{section.name}"><h2>{_text(section.heading)}</h2>{text}{tables}</section>'


def _value(value: Any, depth: int = 0) -> str:
    """A JSON value: two levels as definition lists, deeper ones as JSON text."""
    if isinstance(value, Mapping) and value and depth < 2:
        items = (f"<dt>{_text(str(k))}</dt><dd>{_value(v, depth + 1)}</dd>" for k, v in value.items())
        return f"<dl>{''.join(items)}</dl>"
    return f"<code>{_text(value if isinstance(value, str) else json.dumps(value))}</code>"
