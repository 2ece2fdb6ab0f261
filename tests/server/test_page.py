"""The page at `/`: in a real browser, against an API of a few lines, since all that it knows is HTTP and JSON."""

import html.parser
import json
import re

import pytest
from fake_rest_api import CLASSES, serving
from webdriver import CHROMEDRIVER, CHROMIUM, browser

from serving.rest.page import page


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.inside, self.names = [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = dict(attributes).get("id")

    def handle_data(self, data):
        if self.inside == "names":
            self.names += data

    def handle_endtag(self, tag):
        self.inside = None


def test_it_needs_nothing_from_elsewhere_and_names_cannot_break_out():
    names = ["digits", "</script><script>alert(1)</script>", "<!-- script -->", "\u2028 & é"]
    text = page(names).decode()
    tags = Tags(text)
    assert json.loads(tags.names) == names
    assert len(tags.found) == len(Tags(page([]).decode()).found)
    assert [about["href"] for tag, about in tags.found if "href" in about] == ["data:,"]
    assert not [about for _, about in tags.found if "src" in about or "style" in about]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    labelled = {about["for"] for tag, about in tags.found if tag == "label" and "for" in about}
    assert {"content", "file"} <= labelled


@pytest.fixture(scope="module")
def api():
    with serving() as (url, received):
        yield url, received


@pytest.fixture(scope="module")
def window(api):
    with browser() as opened:
        opened.open(api[0])
        yield opened


def choose(window, model, signature):
    """Choose a model, and wait until its signatures are there."""
    window.script(
        "const select = document.querySelector('#model'); select.value = arguments[0];"
        "select.dispatchEvent(new Event('change', {bubbles: true}))",
        model,
    )
    window.wait(
        "return document.querySelector('#model').value === " + json.dumps(model) + " && document.querySelector"
        "('#health').className === 'health good' && [...document.querySelectorAll('#signatures h3')].at(-1)"
        f"?.textContent === '{signature}'"
    )


def send(window, content=None):
    if content is None:
        window.script("document.querySelector('#random').click()")
    else:
        window.script("document.querySelector('#content').value = arguments[0]", content)
    window.script("document.querySelector('#answer').replaceChildren(); document.querySelector('#send').click()")


def text(window, selector):
    return window.script("return document.querySelector(arguments[0])?.innerText", selector)


@pytest.mark.skipif(not (CHROMEDRIVER and CHROMIUM), reason="chromedriver and Chromium are not installed")
def test_a_person_asks_sees_the_answer_and_every_mistake(window, api):
    _, received = api
    choose(window, "numbers", "classify")
    assert text(window, "#health") == "serving version 2"
    assert "lstm_1_cell" in text(window, "#signatures")
    offered = window.script("return [...document.querySelector('#signature').options].map((o) => o.value)")
    assert offered == ["serving_default", "serving_padded"]  # the others take what no person writes by hand

    # A whole sequence: the input as lines, the answer as bars, with the names that only classify knows.
    send(window)
    window.wait("return document.querySelectorAll('.bars tr').length === 3")
    shown = window.script("return [...document.querySelectorAll('.bars tr')].map((row) => row.innerText.split(/\\s+/))")
    assert {row[0] for row in shown} == set(CLASSES)
    assert sum(float(row[1]) for row in shown) == pytest.approx(1, abs=2e-4)
    assert window.script("return document.querySelectorAll('#input path').length") == 4
    widths = window.script("return [...document.querySelectorAll('.fill')].map((bar) => bar.offsetWidth)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0
    assert {verb for verb, _ in received} == {"predict", "classify"}
    whole = received[0][1]["inputs"]["features"][0]
    answer = text(window, ".best")

    # The same as a stream: chunk after chunk with the states of the one before, the same answer at the end.
    received.clear()
    window.script("document.querySelector('[value=stream]').click(); document.querySelector('#chunk').value = 7")
    window.script("document.querySelector('#send').click()")
    window.wait("return document.querySelector('#timing').innerText.startsWith('40 of 40')")
    assert [len(body["inputs"]["features"][0]) for _, body in received] == [7, 7, 7, 7, 7, 5]
    assert [step for _, body in received for step in body["inputs"]["features"][0]] == whole
    assert received[0][1]["inputs"]["lstm_1_cell"] == [[0, 0, 0]]
    assert all(any(body["inputs"]["lstm_1_cell"][0]) for _, body in received[1:])
    assert text(window, ".best") == answer
    assert window.script("return document.querySelectorAll('#answer path').length") == 3
    window.script("document.querySelector('[value=whole]').click()")

    # Tables and JSON of every shape; what is wrong is said where it was typed.
    sequence = "[[[1, 2, 3, 4], [5, 6, 7, 8]]]"
    for given in ("a,b,c,d\n1,2,3,4\n5,6,7,8\n", "1\t2\t3\t4\n5 6 7 8", sequence, f'{{"instances": {sequence}}}'):
        received.clear()
        send(window, given)
        window.wait("return document.querySelector('.bars') !== null")
        assert received[0][1]["inputs"]["features"] == [[[1, 2, 3, 4], [5, 6, 7, 8]]]
    for given, message in {
        "": "nothing to send",
        "[[1, 2, 3]]": "Step 0 has 3 values; the model takes 4",
        "[[1, 2, 3, 4], [1, 2, 3]]": "Step 1 has 3",
        "[[1, 2, 3, null]]": "null, which is no finite number",
        "[[1, 2": "no JSON",
        "1,2,3,4\n5,x,7,8": "Line 2 of the table",
        "[[[1,2,3,4]],[[1,2,3,4]]]": "There are 2 sequences",
    }.items():
        send(window, given)
        window.wait(f"return document.querySelector('#error').innerText.includes({json.dumps(message)})")
    assert window.log() == []
    send(window, "[[-1, -1, -1, -1]]")
    window.wait("return document.querySelector('#error').innerText === 'the model says <no>'")
    assert all("400" in line for line in window.log())
    send(window, "[[99, 0, 0, 0]]")  # the answer holds NaN, which JSON proper has not
    window.wait("return document.querySelector('#answer').innerText.includes('No answer for this sequence')")
    assert text(window, "#error") == ""

    # A forecast, and text.
    choose(window, "forecast", "serving_default")
    send(window)
    window.wait("return document.querySelectorAll('#answer path').length === 2")
    choose(window, "text", "serving_default")
    assert text(window, "#content-label") == "Text"
    send(window, "[a text]")
    window.wait("return document.querySelectorAll('.bars tr').length === 3")
    assert received[-1][1]["inputs"] == {"text": ["[a text]"]}
    assert window.log() == []
