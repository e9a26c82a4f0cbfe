"""The SVG writer: a well-formed document whatever the text."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from engine.bench.svg import Drawing

SVG = "{http://www.w3.org/2000/svg}"
printable = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn", "Co"]))


@given(printable, printable)
def test_any_text_is_escaped(title: str, words: str) -> None:
    drawing = Drawing(100)
    drawing.text(1, 2, words)
    root = ElementTree.fromstring(drawing.document(50, title))
    [shown] = root.findall(f"{SVG}text")
    assert (shown.text or "") == words
    assert (root.findtext(f"{SVG}title") or "") == title


def test_shapes_keep_their_order_and_measures() -> None:
    drawing = Drawing(200)
    drawing.rect(0, 1.25, -3, 10, "#fff")
    drawing.line(0, 0, 5, 5, "#000")
    drawing.path([(0, 0), (1, 2.5)], "#000")
    root = ElementTree.fromstring(drawing.document(80, "t"))
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("200", "80", "0 0 200 80")
    rect, line, path = list(root)[2:]
    assert (rect.get("x"), rect.get("y"), rect.get("width")) == ("0", "1.2", "0")
    assert line.get("x2") == "5"
    assert path.get("d") == "M0,0L1,2.5"
