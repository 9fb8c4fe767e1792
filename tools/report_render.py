"""What bench_report.py's pages are made of, and their two forms: Markdown for docs/results and one HTML page that
needs nothing else. A page is a list of blocks; whatever was not measured says so. Standard library only."""

import html
import re

MISSING = "not measured yet"


def heading(level, words):
    return ("heading", level, words)


def paragraph(words):
    return ("paragraph", words)


def table(header, rows):
    """Cells are texts, numbers or None; columns of numbers are set to the right."""
    return ("table", header, [[cell(c) for c in row] for row in rows])


def chart(svg):
    """Only in the HTML page: Markdown has the numbers."""
    return ("chart", svg)


def cell(value):
    if value is None:
        return MISSING
    if isinstance(value, float):
        return number(value)
    return str(value)


def number(value):
    """Three significant digits, or all digits before the point."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{1 if abs(value) >= 10 else digits}f}"


def is_numeric(words):
    return bool(re.match(r"^[<>+~-]?\d[\d.,]*( ?%| us| ms)?( \(.*\))?$", words)) or words in (MISSING, "", "-")


def numeric_columns(header, rows):
    """A column of nothing but missing values goes to the left, like text."""
    flags = []
    for i in range(len(header)):
        column = [row[i] for row in rows]
        flags.append(bool(column) and all(is_numeric(c) for c in column)
                     and any(c not in (MISSING, "", "-") for c in column))
    return flags


# --- Markdown ------------------------------------------------------------------------------------------------------

def markdown(blocks):
    lines = []
    for block in blocks:
        if block[0] == "heading":
            lines += ["#" * block[1] + " " + block[2], ""]
        elif block[0] == "paragraph":
            lines += [block[1], ""]
        elif block[0] == "table":
            _, header, rows = block
            right = numeric_columns(header, rows)
            lines.append("| " + " | ".join(header) + " |")
            lines.append("|" + "|".join("---:" if r else "---" for r in right) + "|")
            lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
            lines.append("")
    return "\n".join(lines)


# --- HTML ----------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1d2430; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 16px 0 4px; }
h2 { font-size: 23px; margin: 48px 0 8px; padding-top: 12px; border-top: 2px solid #dfe3e8; }
h3 { font-size: 18px; margin: 32px 0 6px; overflow-wrap: anywhere; }
p { margin: 8px 0 12px; max-width: 80ch; overflow-wrap: anywhere; }
nav { margin: 12px 0 0; display: flex; flex-wrap: wrap; gap: 4px 20px; }
a { color: #0b57d0; }
code { font: 14px ui-monospace, monospace; background: #f2f4f7; padding: 1px 4px; border-radius: 3px; }
.wide { overflow-x: auto; margin: 12px 0 20px; }
table { border-collapse: collapse; font-size: 14.5px; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e7eaee; }
th { border-bottom: 2px solid #c6ccd4; font-weight: 600; vertical-align: bottom; max-width: 8em; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
td.missing { color: #5b6472; font-style: italic; white-space: nowrap; }
td.s { white-space: nowrap; }
td { max-width: 34em; }
figure { margin: 16px 0 24px; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; min-width: 740px; display: block; }
"""


SHORT = ' class="s"'  # not broken into lines


def inline(words):
    """Markdown's code, bold and links in HTML."""
    words = html.escape(words, quote=False)
    words = re.sub(r"`([^`]*)`", r"<code>\1</code>", words)
    words = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", words)
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r'<a href="\2">\1</a>', words)


def anchor(words):
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def html_table(header, rows):
    right = numeric_columns(header, rows)
    kind = [' class="n"' if r else "" for r in right]
    out = ['<div class="wide"><table><thead><tr>']
    out += [f"<th{k}>{inline(h)}</th>" for k, h in zip(kind, header)]
    out.append("</tr></thead><tbody>")
    for row in rows:
        cells = [f'<td class="missing">{c}</td>' if c == MISSING
                 else f"<td{k or (SHORT if len(c) < 40 else '')}>{inline(c)}</td>" for k, c in zip(kind, row)]
        out.append("<tr>" + "".join(cells) + "</tr>")
    return "".join(out) + "</tbody></table></div>"


def html_page(title, blocks):
    body, entries = [], []
    for block in blocks:
        if block[0] == "heading":
            _, level, words = block
            body.append(f'<h{level} id="{anchor(words)}">{inline(words)}</h{level}>')
            if level == 2:
                entries.append(f'<a href="#{anchor(words)}">{inline(words)}</a>')
            if level == 1:
                body.append("<nav></nav>")
        elif block[0] == "paragraph":
            body.append(f"<p>{inline(block[1])}</p>")
        elif block[0] == "table":
            body.append(html_table(block[1], block[2]))
        else:
            body.append(f"<figure>{block[1]}</figure>")
    text = "\n".join(body).replace("<nav></nav>", f"<nav>{' '.join(entries)}</nav>", 1)
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{text}\n</main>\n</body>\n</html>\n")
