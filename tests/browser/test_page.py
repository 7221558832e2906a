"""The page of a report in a real browser, without a network.

Needs Chromium, and Playwright for Python, which drives it: ``tox -e browser``.
"""

import os
import shutil

import pytest

from dvc_parallel.reporting.report.page import page
from dvc_parallel.reporting.report.sections import Failure
from tests.support.journals import Journal, large, summed_up

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = [*filter(None, [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)])]

pytestmark = pytest.mark.skipif(
    not FOUND, reason=f"needs one of {', '.join(NAMES)}, or CHROMIUM"
)

EVIL = "</script><script>document.title = 'taken over'</script><img src=x onerror=x>"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # NOTE: Chromium's sandbox does not work as root, such as in containers
        browser = playwright.chromium.launch(
            executable_path=FOUND[0], args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of a run; fail if anything goes wrong in it."""
    contexts, errors = [], []

    def show(journal, scheme="light", log="", **kwargs):
        run, found = summed_up(journal, tmp_path / "runs")
        failures = [Failure(stage, log, "log") for stage in found.failed]
        path = tmp_path / "report.html"
        text = page(run.header, "failed", found, failures)
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(
            color_scheme=scheme,
            offline=True,
            **{"viewport": {"width": 1200, "height": 900}, **kwargs},
        )
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: errors.append(message.text))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("requestfailed", lambda request: errors.append(request.url))
        opened.goto(path.as_uri())
        if kwargs.get("java_script_enabled", True):
            settle(opened)
        return opened

    yield show
    for context in contexts:
        context.close()
    assert not errors


def settle(opened):
    """Wait until what is due has been drawn."""
    frame = "new Promise(done => requestAnimationFrame(done))"
    opened.evaluate(f"{frame}.then(() => {frame})")


def pixels(opened):
    """The chart, as a picture."""
    return opened.evaluate("document.getElementById('canvas').toDataURL()")


def colors(opened):
    """How many pixels of the chart have which color."""
    return opened.evaluate(
        """() => {
            const canvas = document.getElementById("canvas");
            const box = [0, 0, canvas.width, canvas.height];
            const data = canvas.getContext("2d").getImageData(...box).data;
            const counts = {};
            for (let i = 0; i < data.length; i += 4) {
                const color = "#" + [...data.slice(i, i + 3)]
                    .map(value => value.toString(16).padStart(2, "0")).join("");
                counts[color] = (counts[color] || 0) + 1;
            }
            return counts;
        }"""
    )


def variable(opened, name):
    return opened.evaluate(
        f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')"
    )


def small(**kwargs):
    return Journal(
        {1: [0], 2: [0], 3: [1, 2]},
        [2.0, 4.0, 3.0, 1.0],
        2,
        ["prepare", "train@svm", "train@forest", "evaluate"],
        **{"lock": 0.1, "check": 0.2, "save": 0.5, **kwargs},
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chart_has_the_colors_of_the_legend(show, scheme):
    opened = show(small(failing=frozenset({2})), scheme)
    counts = colors(opened)
    for name in ("command", "check", "save", "lock", "failed", "critical"):
        assert counts.get(variable(opened, name), 0) > 20, name


def contrast(one, other):
    """Contrast of two colors, by WCAG 2.1."""

    def luminance(color):
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(show, scheme):
    opened = show(small(), scheme)
    for below in ("page", "raised"):
        for text in ("text", "muted", "link", "failed"):
            ratio = contrast(variable(opened, text), variable(opened, below))
            assert ratio >= 4.5, (text, below)
        for shape in ("edge", "command", "check", "save", "lock", "failed"):
            ratio = contrast(variable(opened, shape), variable(opened, below))
            assert ratio >= 3, (shape, below)
    for phase in ("command", "check", "save", "lock", "failed"):
        ratio = contrast(variable(opened, "on-color"), variable(opened, phase))
        assert ratio >= 4.5, phase


def test_dark_while_open(show):
    opened = show(small())
    before = pixels(opened)
    opened.emulate_media(color_scheme="dark")
    settle(opened)
    assert pixels(opened) != before


def test_keyboard(show):
    opened = show(small())
    whole = pixels(opened)
    canvas = opened.locator("#canvas")
    canvas.focus()
    selected = opened.locator("#selected strong")

    for key in ("+", "ArrowRight"):
        before = pixels(opened)
        canvas.press(key)
        settle(opened)
        assert pixels(opened) != before, key
    canvas.press("0")
    settle(opened)
    assert pixels(opened) == whole

    told = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "c", "c", "c"):
        canvas.press(key)
        told.append(selected.inner_text().split(":")[0])
    assert told == [
        "prepare",
        "train@svm",
        "prepare",
        "train@svm",
        "evaluate",
        "evaluate",
    ]
    text = opened.locator("#selected").inner_text()
    assert "It last waited for its upstream stage train@svm." in text
    assert "> python 3.py" in text
    canvas.press("Enter")
    settle(opened)
    assert pixels(opened) != whole
    canvas.press("Escape")
    assert opened.locator("#selected").inner_text() == ""
    canvas.press("Tab")
    assert opened.evaluate("document.activeElement.id") != "canvas"


def test_mouse(show):
    opened = show(small())
    whole = pixels(opened)
    box = opened.locator("#canvas").bounding_box()
    x, y = box["x"] + 110, box["y"] + 65  # in the first row, "prepare"
    opened.mouse.move(x, y)
    assert "prepare: ran" in opened.locator("#tip").inner_text()
    opened.mouse.click(x, y)
    assert "prepare" in opened.locator("#selected").inner_text()
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -300)
    opened.keyboard.up("Control")
    settle(opened)
    zoomed = pixels(opened)
    assert zoomed != whole
    opened.mouse.down()
    opened.mouse.move(x - 60, y)
    opened.mouse.up()
    settle(opened)
    assert pixels(opened) != zoomed
    opened.locator("#canvas").press("Escape")
    opened.get_by_role("button", name="Whole run").click()
    settle(opened)
    assert pixels(opened) == whole


def test_search(show):
    opened = show(small())
    before = pixels(opened)
    find = opened.get_by_label("Find stages")
    find.fill("TRAIN for")
    settle(opened)
    assert opened.locator("#found").inner_text() == "1 of 4"
    assert opened.locator("#rows th").all_inner_texts() == ["train@forest"]
    assert pixels(opened) != before
    find.press("Enter")
    assert "train@forest" in opened.locator("#selected").inner_text()
    find.fill("nothing has this name")
    assert opened.locator("#found").inner_text() == "0 of 4"
    find.press("Enter")
    find.fill("")
    assert opened.locator("#rows tr").count() == 4


def test_names_in_the_chart_are_shortened_to_what_differs(show):
    names = ["prepare-everything", "train@svm", "train@forest", "prepare"]
    journal = small(failing=frozenset({2}))
    journal.names = [
        f"reports/{'x' * 150}/no{i}/dvc.yaml:{n}" for i, n in enumerate(names)
    ]
    journal.names[2] += "s" * 150
    opened = show(journal)
    opened.evaluate(
        """() => {
            const context = document.getElementById("canvas").getContext("2d");
            const draw = context.fillText.bind(context);
            window.drawn = [];
            context.fillText = (text, ...place) => {
                drawn.push(text);
                draw(text, ...place);
            };
        }"""
    )
    opened.get_by_role("button", name="Whole run").click()
    settle(opened)
    drawn = opened.evaluate("drawn")
    assert "no0:prepare-everything" in drawn
    assert "no1:train@svm" in drawn
    (failed,) = (text for text in drawn if text.startswith("\N{MULTIPLICATION SIGN} …"))
    assert failed.endswith("sss")
    opened.set_viewport_size({"width": 420, "height": 900})
    settle(opened)
    drawn = opened.evaluate("drawn")
    assert any(text.startswith("no0:") and text.endswith("…") for text in drawn)


def test_long_names_and_commands_leave_room_for_the_rest(show):
    journal = small()
    journal.names = [f"{'folder/' * 9}dvc.yaml:{name}" for name in journal.names]
    journal.command = " ".join(["dvc repro", *journal.names])
    opened = show(journal, viewport={"width": 1080, "height": 900})
    assert opened.locator("h1").bounding_box()["height"] < 110
    for table in opened.locator("main .scroll").all():
        assert table.evaluate("it => it.scrollWidth <= it.clientWidth")


def test_table_of_all_stages(show):
    opened = show(small())
    table = opened.locator("#rows th")
    opened.get_by_role("button", name="command", exact=True).click()
    longest = ["train@svm", "train@forest", "prepare", "evaluate"]
    assert table.all_inner_texts() == longest
    opened.get_by_role("button", name="command", exact=True).click()
    assert table.all_inner_texts() == longest[::-1]
    assert opened.locator("[aria-sort=ascending]").inner_text() == "command"


def test_what_stages_used(show):
    used = {
        1: {"seconds": 4.0, "cpu": 8.0, "memory": 3 * 2**30, "read": 0, "written": 7},
        2: {"seconds": 3.0, "cpu": 0.5, "samples": [[1.0, 2**20], [2.0, 2**30]]},
    }
    opened = show(small(used=used))
    assert "4.0 GiB" in opened.locator(".facts").inner_text()
    opened.get_by_role("button", name="memory", exact=True).click()
    row = opened.locator("#rows tr").first.inner_text().split()
    assert row[0] == "train@svm"
    assert row[-8:] == [*["8.000", "3.0", "GiB", "0", "B", "7", "B"], "yes"]
    opened.locator("#canvas").press("ArrowDown")
    opened.locator("#canvas").press("ArrowDown")
    text = opened.locator("#selected").inner_text()
    assert "CPU time 8.00 s, memory 3.0 GiB, read 0 B, written 7 B" in text
    # NOTE: the line below the rows is there, and moves with them
    drawn = colors(opened)[variable(opened, "check")]
    without = show(small(id="20261121-083001-test"))
    assert drawn > 1000 + colors(without)[variable(without, "check")]
    assert without.get_by_role("button", name="memory", exact=True).count() == 0


def test_nothing_of_a_run_is_run(show):
    journal = small(failing=frozenset({1}))
    journal.names = [f"{name}{EVIL}" for name in journal.names]
    opened = show(journal, log=EVIL * 3)
    assert opened.title().startswith("dvc repro")
    assert opened.locator("img").count() == 0
    assert EVIL in opened.locator("pre").inner_text()
    opened.locator("#canvas").press("ArrowDown")
    assert EVIL in opened.locator("#selected").inner_text()


def test_many_stages(show):
    journal = large(3000, 16, failing=frozenset({700}), on_error="ignore")
    opened = show(journal)
    assert opened.locator("#rows tr").count() == 100
    opened.get_by_role("button", name="Show more").click()
    assert opened.locator("#rows tr").count() == 600
    opened.get_by_label("Find stages").fill(journal.names[2999])
    assert opened.locator("#found").inner_text() == "1 of 3000"
    opened.get_by_label("Find stages").press("Enter")
    assert journal.names[2999] in opened.locator("#selected").inner_text()
    for key in ("0", "+", "+", "ArrowRight", "c", "Enter"):
        before = pixels(opened)
        opened.locator("#canvas").press(key)
        settle(opened)
        assert pixels(opened) != before, key


def test_without_scripts(show):
    failing = small(failing=frozenset({3}))
    opened = show(failing, log="the log", java_script_enabled=False)
    assert opened.get_by_text("need JavaScript").is_visible()
    assert opened.locator("#chart").is_hidden()
    assert opened.locator("pre").inner_text() == "the log"
    assert opened.get_by_role("heading", name="Critical path (").is_visible()


def test_narrow(show):
    opened = show(small(), viewport={"width": 360, "height": 640})
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width <= 360


@pytest.mark.parametrize("width", [1080, 1280])
def test_tables_are_not_cut(show, width):
    opened = show(small(), viewport={"width": width, "height": 900})
    cut = "boxes => boxes.map(box => box.scrollWidth - box.clientWidth)"
    assert set(opened.locator(".scroll").evaluate_all(cut)) == {0}


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_stages_are_not_broken(show, width):
    opened = show(small(), viewport={"width": width, "height": 900})
    rows = opened.evaluate(
        """[...document.querySelectorAll("tbody th.name")].map((cell) => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            return range.getClientRects().length;
        })"""
    )
    assert len(rows) > 5
    assert set(rows) == {1}


def test_a_page_that_renews_itself_stays_as_it_was_left(browser, tmp_path):
    """Until the run is over, after which it is read no more."""
    path = tmp_path / "report.html"
    run, found = summed_up(large(400), tmp_path / "runs")

    def write(state, renewed_after=None):
        text = page(run.header, state, found, [], renewed_after)
        path.write_text(text, encoding="utf-8")

    # NOTE: what is done until then takes less, on a busy machine as well
    write("running", 10)
    opened = browser.new_page(offline=True)
    errors = []
    opened.on("console", lambda message: errors.append(message.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(path.as_uri())
    opened.fill("#find", "1")
    opened.click("#columns button >> nth=9")
    opened.click("#columns button >> nth=9")
    opened.evaluate("scrollTo(0, 700)")
    opened.focus("#find")
    opened.evaluate("scrollTo(0, 700)")
    first_row = opened.inner_text("#rows tr:first-child")
    assert opened.evaluate("scrollY") == 700
    # NOTE: not a function to wait for, as the policy of the page has none evaluated
    with opened.expect_event("load"):
        write("ok")
    assert opened.input_value("#find") == "1"
    assert opened.evaluate("document.activeElement.id") == "find"
    assert opened.inner_text("#rows tr:first-child") == first_row
    assert opened.evaluate("scrollY") == 700
    assert "succeeded" in opened.inner_text("header")
    assert not opened.query_selector("meta[http-equiv=refresh]")
    assert not errors
    opened.close()
