"""Charts as SVG text, for compare.py and bench_report.py: bars with spread, stacked bars, a roofline. Standard library
only; no scripts, no fonts from elsewhere; dark text on white."""

import html
import math

INK, FAINT, GRID = "#1d2430", "#5b6472", "#dfe3e8"
OURS, RIVAL, FLOOR = "#1f6feb", "#9aa4b2", "#b42318"
PALETTE = ["#1f6feb", "#0f9d8a", "#b7791f", "#8a4fbf", "#c2410c", "#3f7d20", "#667085", "#d1477a", "#12336b", "#7cc0e8"]
FONT = "font-family='system-ui, sans-serif'"
CHARACTER = 7.2  # widest usual letter at 13 px


def escape(text):
    return html.escape(str(text), quote=True)


def text(x, y, words, size=13, anchor="start", colour=INK, weight="normal"):
    return (f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}' "
            f"font-weight='{weight}' stroke='#fff' stroke-width='3' paint-order='stroke'>{escape(words)}</text>")


def document(width, height, title, body):
    """The viewBox scales with the page; its text is read out by a screen reader through title."""
    return (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
            f"role='img' {FONT}><title>{escape(title)}</title>"
            f"<rect width='100%' height='100%' fill='#ffffff'/>{''.join(body)}</svg>")


def number(value):
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def ticks(top, count=5):
    """Round numbers from 0 to at least top."""
    raw = top / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    return [step * i for i in range(int(math.ceil(top / step - 1e-9)) + 1)]


def grid(axis, across, down, unit):
    """Upright lines at the ticks of an axis of lengths, their numbers and its unit."""
    (left, right), (top, bottom), lines = across, down, []
    for tick in axis:
        x = left + tick * (right - left) / axis[-1]
        lines.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{bottom}' stroke='{GRID}'/>")
        lines.append(text(x, bottom + 17, number(tick), 12, "middle", FAINT))
    return lines + [text(right, bottom + 36, unit, 12, "end", FAINT)]


def bars(title, unit, rows, marks=(), width=900):
    """rows: (label, value, low, high, colour, note); value None: the note stands where the bar would be.
    marks: (label, value), a line through all bars each."""
    left = min(420, 24 + CHARACTER * max(len(r[0]) for r in rows))
    notes = max((len(r[5]) for r in rows if r[1] is not None), default=0)
    right = width - 70 - CHARACTER * notes
    values = [v for r in rows for v in (r[1], r[3]) if v is not None] + [value for _, value in marks]
    top = 58 + 18 * len(marks)
    line = 30
    height = top + line * len(rows) + 44
    body, told = [text(12, 24, title, 16, weight="600")], []  # what is told stands on top of all lines
    if not values:
        values = [1.0]
    axis = ticks(max(values))
    scale = (right - left) / axis[-1]
    bottom = top + line * len(rows)
    body += grid(axis, (left, right), (top - 6, bottom), unit)
    for i, (label, value, low, high, colour, note) in enumerate(rows):
        y = top + line * i
        body.append(text(left - 8, y + 18, label, 13, "end"))
        if value is None:
            told.append(text(left + 6, y + 18, note or "not measured yet", 12, colour=FAINT))
            continue
        end = left + value * scale
        body.append(f"<rect x='{left:.1f}' y='{y + 4}' width='{max(1.0, value * scale):.1f}' height='20' "
                    f"fill='{colour}'/>")
        if low is not None and high is not None and high > low:
            body.append(f"<line x1='{left + low * scale:.1f}' x2='{left + high * scale:.1f}' y1='{y + 14}' "
                        f"y2='{y + 14}' stroke='{INK}' stroke-width='1.5'/>")
            end = max(end, left + high * scale)
        told.append(text(end + 6, y + 18, number(value) + (f"  {note}" if note else ""), 12))
    for i, (label, value) in enumerate(marks):
        x = left + value * scale
        body.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top - 8}' y2='{bottom}' stroke='{FLOOR}' "
                    f"stroke-width='1.5' stroke-dasharray='5 3'/>")
        words = f"{label}: {number(value)}"
        space = CHARACTER * len(words)
        body.append(text(min(x + 4, width - space), 44 + 18 * i, words, 12, colour=FLOOR))
    return document(width, height, title, body + told)


def stacked(title, unit, rows, width=860):
    """rows: (label, [(part, value)]); the parts' colours go by their order of appearance."""
    parts = list(dict.fromkeys(part for _, group in rows for part, _ in group))
    colours = {part: PALETTE[i % len(PALETTE)] for i, part in enumerate(parts)}
    left = min(300, 24 + CHARACTER * max(len(label) for label, _ in rows))
    right = width - 60
    body, x, y = [text(12, 24, title, 16, weight="600")], 12, 48
    for part in parts:
        space = 24 + CHARACTER * len(part)
        if x + space > width:
            x, y = 12, y + 20
        body.append(f"<rect x='{x}' y='{y - 11}' width='12' height='12' fill='{colours[part]}'/>")
        body.append(text(x + 17, y, part, 12))
        x += space
    top, line = y + 20, 34
    axis = ticks(max(sum(v for _, v in group) for _, group in rows))
    scale = (right - left) / axis[-1]
    bottom = top + line * len(rows)
    body += grid(axis, (left, right), (top - 4, bottom), unit)
    for i, (label, group) in enumerate(rows):
        at = left
        body.append(text(left - 8, top + line * i + 19, label, 13, "end"))
        for part, value in group:
            body.append(f"<rect x='{at:.1f}' y='{top + line * i + 3}' width='{max(0.5, value * scale):.1f}' "
                        f"height='24' fill='{colours[part]}'><title>{escape(part)}: {number(value)} "
                        f"{escape(unit)}</title></rect>")
            at += value * scale
        body.append(text(at + 6, top + line * i + 19, number(sum(v for _, v in group)), 12))
    return document(width, bottom + 44, title, body)


def roofline(title, note, points, compute, bandwidth, width=860, height=560):
    """points: (label, FLOP per byte, TFLOP/s, colour). compute in TFLOP/s, bandwidth in GB/s, or None: unknown.
    note: a line below the title."""
    left, right, top, bottom = 70, width - 24, 84, height - 50
    xs = [p[1] for p in points] + ([compute * 1e3 / bandwidth] if compute and bandwidth else [])
    ys = [p[2] for p in points] + ([compute] if compute else [])
    low_x, high_x = math.floor(math.log10(min(xs) * 0.7)), math.ceil(math.log10(max(xs) * 1.4))
    low_y, high_y = math.floor(math.log10(min(ys) * 0.7)), math.ceil(math.log10(max(ys) * 1.4))

    def at(x, y):
        return (left + (math.log10(x) - low_x) / (high_x - low_x) * (right - left),
                bottom - (math.log10(y) - low_y) / (high_y - low_y) * (bottom - top))

    def label(power):
        return f"{10.0 ** power:g}"

    body = [text(12, 24, title, 16, weight="600"), text(12, 46, note, 12, colour=FAINT)]
    for power in range(low_x, high_x + 1):
        x, _ = at(10.0 ** power, 1)
        body.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{bottom}' stroke='{GRID}'/>")
        body.append(text(x, bottom + 17, label(power), 12, "middle", FAINT))
    for power in range(low_y, high_y + 1):
        _, y = at(1, 10.0 ** power)
        body.append(f"<line x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}' stroke='{GRID}'/>")
        body.append(text(left - 8, y + 4, label(power), 12, "end", FAINT))
    body.append(text(right, bottom + 38, "FLOP per byte of least traffic", 12, "end", FAINT))
    body.append(text(12, top - 14, "TFLOP/s", 12, colour=FAINT))
    if compute and bandwidth:
        ridge = compute * 1e3 / bandwidth
        corner = [(10.0 ** low_x, 10.0 ** low_x * bandwidth / 1e3), (ridge, compute), (10.0 ** high_x, compute)]
        if corner[0][1] < 10.0 ** low_y:
            corner[0] = (10.0 ** low_y * 1e3 / bandwidth, 10.0 ** low_y)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*c) for c in corner))
        body.append(f"<polyline points='{path}' fill='none' stroke='{FLOOR}' stroke-width='1.5'/>")
        x, y = at(10.0 ** high_x, compute)
        body.append(text(x - 4, y - 7, f"{number(compute)} TFLOP/s", 12, "end", FLOOR))
        x, y = at(*[math.sqrt(a * b) for a, b in zip(*corner[:2])])
        body.append(text(x - 10, y - 6, f"{number(bandwidth)} GB/s", 12, "end", FLOOR))
    for name, x, y, colour in points:
        px, py = at(x, y)
        body.append(f"<circle cx='{px:.1f}' cy='{py:.1f}' r='4.5' fill='{colour}' fill-opacity='0.75'>"
                    f"<title>{escape(name)}: {number(y)} TFLOP/s at {number(x)} FLOP/B</title></circle>")
    return document(width, height, title, body)
