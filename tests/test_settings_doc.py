"""The settings page is what the rows say."""

from engine.settings_rows import ROWS
from engine.settings_unbuilt import UNBUILT
from tools.gen_settings_doc import PAGE, render, unread_settings


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m tools.gen_settings_doc`"


def test_every_setting_is_on_it_once() -> None:
    page = render()
    for row in ROWS:
        assert page.count(f"\n| `{row.name}` |") == 1, row.name


def test_the_settings_called_unbuilt_are_those_that_nothing_reads() -> None:
    assert sorted(UNBUILT) == sorted(unread_settings())
