"""Points -> a line chart as SVG text, without any library."""

import math
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 180, 40, 50
COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a"]


def chart(title, x_title, y_title, series, y_from_zero=False):
    """`series` is a list of (name, [(x, y), …]); x is drawn on a logarithmic scale, y too unless it starts at zero."""
    points = [point for _, line in series for point in line]
    x_axis = Axis(min(x for x, _ in points), max(x for x, _ in points), LEFT, WIDTH - RIGHT, True)
    lowest = 0.0 if y_from_zero else min(y for _, y in points)
    y_axis = Axis(lowest, max(y for _, y in points), HEIGHT - BOTTOM, TOP, not y_from_zero)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        text((LEFT + WIDTH - RIGHT) / 2, 20, title, "middle", 'font-weight="bold"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, "middle"),
        text(15, (TOP + HEIGHT - BOTTOM) / 2, y_title, "middle", f'transform="rotate(-90 15 {(TOP + HEIGHT - BOTTOM) / 2})"'),
    ]
    for value in x_axis.ticks():
        x = x_axis.at(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#d0d7de"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 16, short(value), "middle"))
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(text(LEFT - 6, y + 4, short(value), "end"))
    for number, (name, line) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        spots = [(x_axis.at(x), y_axis.at(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
        y = TOP + 10 + 18 * number
        parts.append(f'<line x1="{WIDTH - RIGHT + 10}" y1="{y}" x2="{WIDTH - RIGHT + 30}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        parts.append(text(WIDTH - RIGHT + 36, y + 4, name, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


class Axis:
    """Values -> positions, on a linear or a logarithmic scale."""

    def __init__(self, low, high, start, end, is_logarithmic):
        self.is_logarithmic = is_logarithmic
        if is_logarithmic:
            # Whole decades would waste half of the picture; 1, 2 and 5 are enough.
            self.low, self.high = step_below(low), step_above(high)
        else:
            self.low, self.high = low, high * 1.1 or 1.0
        if self.high <= self.low:
            self.high = self.low * 2
        self.start, self.end = start, end

    def at(self, value):
        """Position of a value."""
        scale = math.log if self.is_logarithmic else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self):
        """Values to label."""
        if self.is_logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if self.high / self.low > 1_000 else (1, 2, 5)
            ticks = [step * 10.0**decade for decade in decades for step in steps]
            return [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]
        step = step_above(self.high / 6)
        return [step * number for number in range(int(self.high / step) + 1)]


def step_above(value):
    """The least of 1, 2, 5 times a power of ten that is not smaller."""
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= value * 0.999)


def step_below(value):
    """The greatest of 1, 2, 5 times a power of ten that is not larger."""
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step * decade for step in (5, 2, 1) if step * decade <= value * 1.001)


def short(value):
    """A number for an axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def text(x, y, content, anchor, attributes=""):
    """A text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {attributes}>{escape(content)}</text>'
