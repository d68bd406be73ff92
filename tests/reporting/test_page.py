"""Both prints hold every word; the page loads nothing, fits narrow screens and can be read on dark ground."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from facerep_jax.reporting import layout, workdirs
from facerep_jax.reporting.page import Row, aligned_cells, html, markdown, markdown_text, whiskers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Parser(HTMLParser):
    """Checks nesting; collects words, ids, and every attribute that could load something."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags, self.words, self.ids, self.images = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "poster", "action")]
        self.ids += [v for k, v in attrs if k == "id"]
        self.images += [dict(attrs)] if tag == "img" or dict(attrs).get("role") == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parsed(text):
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


def test_both_prints_hold_every_word(laid_out):
    words = re.sub(r"\s", "", "".join(parsed(html(laid_out)).words))
    plain = re.sub(r"\s", "", re.sub(r"\\([|*_`\[\]\\])", r"\1", markdown(laid_out)))
    for name, sections in laid_out.chapters:
        for section in sections:
            wanted = [name, section.title, section.facts, *section.explanations]
            for part in section.blocks:
                if part.kind == "table":
                    wanted += [part.title, part.caption, *part.header, *part.notes]
                    wanted += [text for row in part.rows for text in (*row.cells, row.conditions)]
                if part.kind == "cards":
                    wanted += [text for card in part.cards for fact in card.facts for text in fact]
                if part.kind == "gallery":
                    assert all(re.sub(r"\s", "", p.caption) in words for p in part.pictures)
            wanted = [re.sub(r"\s", "", text) for text in wanted]
            assert not [text for text in wanted if text not in words or text not in plain]


def test_the_page_loads_nothing_and_says_what_its_pictures_show(laid_out):
    text = html(laid_out)
    parser = parsed(text)
    assert parser.loads
    assert all(link.startswith(("data:image/", "#")) for link in parser.loads)
    assert all(link[1:] in parser.ids for link in parser.loads if link.startswith("#"))
    assert len(set(parser.ids)) == len(parser.ids)  # those of charts do not clash
    assert not {"script", "link", "iframe", "object", "style:import"} & set(parser.tags)
    assert not re.search(r"http|url\((?!#)|@import|//", re.sub(r'src="data:[^"]*"', "", text))
    assert all((image.get("alt") or image.get("aria-label") or "").strip() for image in parser.images)
    assert len(text) < 5_000_000


def test_the_colours_of_charts_are_those_of_the_page(laid_out):
    text = html(laid_out)
    assert "#0100" not in text
    used, light = (set(re.findall(pattern, text)) for pattern in (r"var\(--([a-z0-9-]+)\)", r"--([a-z0-9-]+):"))
    dark = set(
        re.findall(r"--([a-z0-9-]+):", text[text.index("prefers-color-scheme: dark") : text.index("box-sizing")])
    )
    assert used <= light == dark


def test_names_are_escaped(tmp_path, written):
    nasty = 'a<img src="http://x/y">&|b$c$'
    written.evaluation(
        tmp_path / "farl", 0.06, checkpoint=written.farl | {"path": nasty.replace("/", "")}, dataset=nasty
    )
    page = layout.page(*workdirs.read([tmp_path]))
    parser = parsed(html(page))
    assert all(link.startswith(("data:image/", "#")) for link in parser.loads)
    assert nasty in "".join(parser.words)
    printed = markdown(page)
    assert "<img" not in printed
    row = next(line for line in printed.splitlines() if line.startswith("| a&lt;img"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6  # five cells: a bar in a name does not open another


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("mean_shape [+1.01, +1.36]", "mean_shape [+1.01, +1.36]"),
        ("__init__ _a_", r"\_\_init\_\_ \_a\_"),
        ("[a](http://x) [a]: x [a][b]", r"[a\](http://x) [a\]: x [a\][b]"),
        ("a|b `c` *d* \\ <e> & f\n", r"a\|b \`c\` \*d\* \\ &lt;e&gt; &amp; f "),
    ],
)
def test_only_what_is_markup_is_escaped(text, printed):
    assert markdown_text(text) == printed


def test_numbers_are_padded_to_one_decimal_point():
    minus = "\N{MINUS SIGN}"
    rows = [("a", "13.79 ± 0.06", "+1.19 [+1.01, +1.36]"), ("b", "6.19", f"{minus}12"), ("c", "-", "1,000")]
    cells = aligned_cells([Row(row) for row in rows])
    assert [[cell.text for cell in row] for row in cells] == [list(row[1:]) for row in rows]
    pads = [[float(cell.pad or 0) for cell in row] for row in cells]
    whole, bracket = 2.5, 0.5 + 0.5 + 4.5 + 0.5 + 0.5 + 4.5 + 0.5  # ".19", " [+1.01, +1.36]"
    assert pads == [[0, 0], [0.5 + 1 + 0.5 + 3.5, whole + bracket], [2.5 + 5.5, whole + bracket]]


def test_intervals_share_a_scale_that_holds_0():
    rows = [Row(("a",), interval=(2.0, 1.0, 3.0)), Row(("b",)), Row(("c",), interval=(0.5, -1.0, 2.0))]
    first, nothing, last = whiskers(rows)
    assert nothing == ""
    zero = [re.search(r"M([\d.]+) 1V19", drawn)[1] for drawn in (first, last)]
    assert zero[0] == zero[1]
    assert 'fill="none"' in last.partition("<circle")[2]  # it holds 0: hollow
    assert 'fill="none"' not in first.partition("<circle")[2]
    assert whiskers(rows[1:2]) == []


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path")

    def run(*flags):
        fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
        return subprocess.run(
            [CHROMIUM, *fixed, *flags], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    return run


MEASURE = """<script>addEventListener("load", () => {
const wide = [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll") && !e.closest("svg")
  && !e.closest("pre") && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className);
const points = [...document.querySelectorAll("table")].flatMap(table => [2, 3].map(column => {
  const places = [...table.querySelectorAll("tr:not(.conditions) > :nth-child(" + column + ")")].flatMap(cell => {
    const text = cell.firstChild, at = text ? text.textContent.search(/^[+\u2212]?[0-9,]+[.]/) : -1;
    if (at < 0) return [];
    const range = document.createRange(), point = text.textContent.indexOf(".");
    range.setStart(text, point); range.setEnd(text, point + 1);
    return [range.getBoundingClientRect().left]; });
  return places.length ? Math.max(...places) - Math.min(...places) : 0; }));
document.body.innerHTML = "<p id=found>" + JSON.stringify({inner: innerWidth,
  page: document.documentElement.scrollWidth, wide, points: Math.round(Math.max(...points)), tables: points.length,
  loaded: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
  broken: [...document.images].filter(e => !e.naturalWidth).length}) + "</p>";
})</script>"""


@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_browser_it_fits_aligns_and_loads_nothing(laid_out, tmp_path, browser, width):
    measured = html(laid_out).replace("<details>", "<details open>").replace("</body>", MEASURE + "</body>")
    (tmp_path / "page.html").write_text(measured)
    # A frame of the wanted width: a headless window is never narrower than some 500 pixels.
    frame = f'<body style="margin:0"><iframe src="page.html" width="{width}" height="4000" style="border:0"></iframe>'
    (tmp_path / "frame.html").write_text(
        frame + "<script>addEventListener('load', () => setTimeout(() => { document.body.innerHTML = "
        "document.querySelector('iframe').contentDocument.getElementById('found').innerHTML }, 200))</script>"
    )
    dom = browser(
        "--allow-file-access-from-files", f"--window-size={max(width, 800)},4200", "--virtual-time-budget=8000",
        "--dump-dom", (tmp_path / "frame.html").as_uri(),
    )  # fmt: skip
    assert f'"inner":{width}' in dom
    assert f'"page":{width},' in dom  # no horizontal scrolling of the page
    assert '"wide":[]' in dom
    assert re.search(r'"points":[01],"tables":[1-9]', dom)  # decimal points stand below each other
    assert '"loaded":0' in dom
    assert '"broken":0' in dom


@pytest.mark.parametrize(("scheme", "ground"), [(1, 255), (0, 40)])
def test_a_screenshot_has_legible_words_on_light_and_dark_ground(laid_out, tmp_path, browser, scheme, ground):
    (tmp_path / "page.html").write_text(html(laid_out))
    browser(
        f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1280,2400",
        f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "page.html").as_uri(),
    )  # fmt: skip
    with Image.open(tmp_path / "page.png") as image:
        shades = np.asarray(image.convert("L")).astype(int)
    paper = np.median(shades)
    assert paper == ground if scheme else paper < ground
    strong = np.abs(shades - paper) > 120  # words
    assert 0.005 < strong.mean() < 0.4
    assert strong.any(1).reshape(24, 100).any(1).mean() > 0.8  # all the way down
