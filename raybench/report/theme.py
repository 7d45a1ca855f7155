"""Colours of a page, light and dark: one table that the style sheet and the figures share.

A figure names its colours `var(--NAME)`; the page's script puts in the ones of the scheme that the reader has, and
those of `light` on paper. Text has a contrast of at least 4.5 to 1 on `paper` and `panel`, lines and points of 3 to 1
(WCAG 2.2, success criteria 1.4.3 and 1.4.11).
"""

from collections.abc import Mapping

PALETTES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "panel": "#f5f6f8",
        "ink": "#1b1f27",
        "muted": "#545d6b",
        "line": "#d5d9e0",
        "accent": "#0b5cad",
        "good": "#17683a",
        "care": "#8f4700",
        "shade": "#c2410c",
        "c0": "#0b5cad",
        "c1": "#c2410c",
        "c2": "#0f766e",
        "c3": "#8a2be2",
        "c4": "#8f6400",
        "c5": "#be185d",
        "c6": "#4d7c0f",
        "c7": "#545d6b",
    },
    "dark": {
        "paper": "#14171c",
        "panel": "#1d2128",
        "ink": "#e7eaef",
        "muted": "#a9b2c0",
        "line": "#39404b",
        "accent": "#78b7ff",
        "good": "#6fd08f",
        "care": "#f2b45c",
        "shade": "#ff9d66",
        "c0": "#78b7ff",
        "c1": "#ff9d66",
        "c2": "#4fd1c0",
        "c3": "#c59bff",
        "c4": "#e0b84d",
        "c5": "#ff8ac2",
        "c6": "#a6d55a",
        "c7": "#a9b2c0",
    },
}

SERIES = tuple(name for name in PALETTES["light"] if name[0] == "c" and name[1:].isdigit())
"""Colours that tell configurations apart."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "hexagon")
DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
"""Of what was measured; dotted is predicted."""


def colour(name: str) -> str:
    """Return how a figure names a colour of `PALETTES`."""
    return f"var(--{name})"
