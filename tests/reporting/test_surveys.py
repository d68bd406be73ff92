"""The page of a survey holds every number; its own blocks are in both prints."""

import pytest

from facerep_jax.data.library import open_dataset
from facerep_jax.data.survey import chosen, survey
from facerep_jax.reporting import page as pages
from facerep_jax.reporting import surveys
from facerep_jax.reporting.page import Listing, Row, Section, whiskers


@pytest.fixture(scope="module")
def found():
    dataset = open_dataset("tests.spoilt_faces:train=12,test=4", ".")
    return survey(dataset, chosen(dataset, ("train", "test"), 0, True))


def tables(page):
    return {
        (section.title, block.title): block
        for _, sections in page.chapters
        for section in sections
        for block in section.blocks
        if block.kind == "table"
    }


def test_tables_hold_what_was_counted(found):
    page = surveys.page(found, [], [], [], ())
    made = tables(page)
    rows = {row.cells[0]: row for row in made["What there is", "Splits and labels"].rows}
    assert rows["records"].cells[1:] == ("12", "4")
    classes = made["Classes of masks", "Balance"].rows
    assert sum(row.share for row in classes) == pytest.approx(1)
    assert len(classes) == 11
    attributes = {row.cells[0]: row for row in made["Attributes", "Balance"].rows}
    assert attributes["smiling"].cells[1] == "16"
    assert attributes["smiling"].share == found.labels["attributes"].on[0] / 16
    people = {row.cells[0]: row.cells[1] for row in made["People", "Images of each"].rows}
    assert people["People"] == str(len(found.people))
    assert page.title == found.dataset.name
    assert "16 records (train 12, test 4); all 16 were read" in page.summary


def test_warnings_and_their_absence_are_told(found):
    calm = surveys.page(found, [], [], [], ())
    assert "Nothing stands out" in pages.html(calm)
    worried = surveys.page(found, ["boxes are <odd>"], [], [], ())
    assert "1 warning" in pages.html(worried)
    assert "boxes are &lt;odd&gt;" in pages.html(worried)
    assert "- boxes are &lt;odd&gt;" in pages.markdown(worried)


def test_a_listing_may_be_folded():
    section = Section("s", "", (Listing("some", ("first", "second"), folded=True),))
    page = pages.Page("p", (("c", (section,)),), title="t", made_by="m", beside="b")
    text = pages.html(page)
    assert "<details><summary>some</summary>" in text
    assert "<li>second</li>" in text
    assert "<h1>t</h1>" in text
    assert "Made by m." in text
    assert pages.markdown(page).startswith("# t: report")


def test_shares_are_drawn_as_bars_on_one_scale():
    whole, half, nothing = whiskers([Row(("a",), share=0.4), Row(("b",), share=0.2), Row(("c",))])
    assert "H150.0" in whole
    assert "H75.0" in half
    assert nothing == ""
