r"""Documents, and how they are written as Markdown and as HTML."""
import base64
import html
import json
from typing import Any, Dict, List, NamedTuple, Sequence, Union


class Heading(NamedTuple):
    r"""A heading."""
    level: int
    text: str


class Text(NamedTuple):
    r"""A paragraph."""
    text: str


class Bullets(NamedTuple):
    r"""A list."""
    items: Sequence[str]


class Table(NamedTuple):
    r"""A table, whose cells are plain text; strong rows stand out, and the
    note below says why.
    """
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: Sequence[int] = ()
    note: str = ''


class Figure(NamedTuple):
    r"""A picture, and what it shows."""
    svg: bytes
    text: str


class Data(NamedTuple):
    r"""Values for those who look for them."""
    title: str
    values: Dict[str, Any]


Block = Union[Heading, Text, Bullets, Table, Figure, Data]

STYLE = '''
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2em auto;
       max-width: 1200px; padding: 0 1em }
h1, h2, h3 { line-height: 1.2; margin-top: 1.6em }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 1em 0;
        font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #888; vertical-align: bottom;
     white-space: normal }
th:first-child, td:first-child { text-align: left }
tr.strong td { font-weight: 600; background: #fdf1ec }
figure { margin: 1.5em 0 } figure img { max-width: 100%; height: auto }
figcaption, .note { color: #555; font-size: 14px }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 13px }
'''


def to_html(title: str, blocks: List[Block]) -> str:
    r"""Writes a document as one HTML file that needs no other."""
    body = '\n'.join(_html(block) for block in blocks)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n'
            f'<meta charset="utf-8">\n<meta name="viewport" '
            f'content="width=device-width">\n'
            f'<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n'
            f'</head>\n<body>\n{body}\n</body>\n</html>\n')


def _html(block: Block) -> str:
    escape = html.escape
    if isinstance(block, Heading):
        return f'<h{block.level}>{escape(block.text)}</h{block.level}>'
    if isinstance(block, Text):
        return f'<p>{escape(block.text)}</p>'
    if isinstance(block, Bullets):
        items = ''.join(f'<li>{escape(x)}</li>' for x in block.items)
        return f'<ul>{items}</ul>'
    if isinstance(block, Table):
        head = ''.join(f'<th>{escape(x)}</th>' for x in block.header)
        rows = ''.join(
            '<tr{}>{}</tr>\n'.format(
                ' class="strong"' * (i in block.strong),
                ''.join(f'<td>{escape(x)}</td>' for x in row))
            for i, row in enumerate(block.rows))
        note = f'<p class="note">{escape(block.note)}</p>' * bool(block.note)
        return (f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
                f'<tbody>\n{rows}</tbody></table>{note}</div>')
    if isinstance(block, Figure):
        data = base64.b64encode(block.svg).decode()
        text = escape(block.text, quote=True)
        return (f'<figure><img alt="{text}" src="data:image/svg+xml;base64,'
                f'{data}"><figcaption>{text}</figcaption></figure>')
    values = escape(json.dumps(block.values, indent=2))
    return (f'<details><summary>{escape(block.title)}</summary>'
            f'<pre>{values}</pre></details>')


def to_markdown(blocks: List[Block], pictures: str) -> str:
    r"""Writes a document as Markdown, which names the file that holds the
    pictures.
    """
    return '\n\n'.join(_markdown(x, pictures) for x in blocks) + '\n'


def _markdown(block: Block, pictures: str) -> str:
    if isinstance(block, Figure):
        return f'*Picture, see [{pictures}]({pictures}): {block.text}*'
    if isinstance(block, Heading):
        return '#' * block.level + ' ' + block.text
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Bullets):
        return '\n'.join(f'- {x}' for x in block.items)
    if isinstance(block, Table):
        rows = [[f'**{x}**' if i in block.strong and x else x for x in row]
                for i, row in enumerate(block.rows)]
        rule = ['---', *['---:'] * (len(block.header) - 1)]
        return '\n'.join('| ' + ' | '.join(x.replace('|', '\\|') for x in row)
                         + ' |' for row in [block.header, rule, *rows]) + (
            f'\n\n{block.note}' if block.note else '')
    assert isinstance(block, Data)
    values = json.dumps(block.values)
    return f'{block.title}:\n\n```json\n{values}\n```'
