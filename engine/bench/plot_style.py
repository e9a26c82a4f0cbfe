"""The colours of the pictures."""

INK = "#0f172a"  #: headings, the engine's own names
FAINT = "#475569"
QUIET = "#64748b"
GRID = "#e2e8f0"

COLOURS = {
    "engine": "#2563eb",
    "celery": "#7cb342",
    "dramatiq": "#ef8e19",
    "huey": "#a05fd0",
    "raw": "#b6c2d1",
}
