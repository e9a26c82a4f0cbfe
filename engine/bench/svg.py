"""A small writer of SVG: shapes collected in order, and text that is escaped. Pure.

Lengths are user units (pixels at the natural size); colours are CSS.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


class Drawing:
    """Shapes on a white ground, to be given out as one document."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._shapes: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, *, radius: float = 0, **more: str
    ) -> None:
        self._add("rect", x=x, y=y, width=max(width, 0), height=height, rx=radius, fill=fill, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1) -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width)

    def path(self, points: Iterable[tuple[float, float]], stroke: str, width: float = 2) -> None:
        """A line through the points."""
        way = "M" + "L".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add("path", d=way, stroke=stroke, stroke_width=width, fill="none", stroke_linejoin="round")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 12,
        fill: str = "#1e293b",
        anchor: str = "start",
        weight: str = "normal",
    ) -> None:
        """``y`` is the base line. ``anchor``: start, middle or end."""
        attributes = _attributes(x=x, y=y, font_size=size, fill=fill, text_anchor=anchor, font_weight=weight)
        self._shapes.append(f"<text{attributes}>{escape(words)}</text>")

    def _add(self, shape: str, **attributes: float | str) -> None:
        self._shapes.append(f"<{shape}{_attributes(**attributes)}/>")

    def document(self, height: float, title: str) -> str:
        """The whole, as tall as asked for. ``title`` is for those who cannot see it."""
        size = f'width="{_number(self.width)}" height="{_number(height)}"'
        box = f'viewBox="0 0 {_number(self.width)} {_number(height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" font-family="{FONT}">'
        ground = f'<rect {size} fill="#ffffff" rx="6"/>'
        return "\n".join([head, f"<title>{escape(title)}</title>", ground, *self._shapes, "</svg>", ""])


def _attributes(**attributes: float | str) -> str:
    """Zero and "normal" are what SVG assumes of those that are used here, but for x, y and sizes."""
    return "".join(
        f" {name.replace('_', '-')}={quoteattr(value if isinstance(value, str) else _number(value))}"
        for name, value in attributes.items()
        if (value not in (0, "normal")) or name in ("x", "y", "x1", "x2", "y1", "y2", "width", "height")
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
