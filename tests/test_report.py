"""The page of a run: what is in it, and that it works in a browser from a file."""

import contextlib
import io
import json
import re
import sqlite3

import browser
import numpy as np
import PIL.Image
import pytest

from dmbp_jax._checks import InputError
from dmbp_jax.evaluation._page import render_report
from dmbp_jax.evaluation._report import make_report, write_report
from dmbp_jax.evaluation._store import open_store
from dmbp_jax.images import Problem

FEW = ("grad_cam", "guided_backprop", "dmbp")


def page_of(run):
    return write_report(run).read_text("utf-8")


def report_of(run):
    with open_store(run) as store:
        return make_report(store)


def embedded(page, name):
    return json.loads(
        re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1]
    )


def titles_of(tables):
    return [table.caption.split(".")[0] for table in tables]


def text_of(table, row, column):
    return table.rows[row][[c.title for c in table.columns].index(column)].text


def test_page_of_a_run(tmp_path):
    methods = ("fullgrad", *FEW)
    run = browser.made_up_run(
        tmp_path, images=6, methods=methods, metrics=("insertion", "complementary_insertion", "deletion")
    )
    page = page_of(run)
    data, pictures = embedded(page, "data"), embedded(page, "pictures")
    assert "4 methods explained 6 images (folder:../shared/images) for 9 targets, their true classes" in page
    assert "not finished" not in page
    assert [method["title"] for method in data["methods"]] == [
        "FullGrad",
        "Grad-CAM",
        "Guided backprop",
        "DMBP",
    ]
    assert [chart["title"] for chart in data["charts"]] == [
        "Insertion (IM)",
        "Complementary insertion (cIM)",
        "Deletion",
    ]
    assert len(data["charts"][0]["curves"][0]["points"]) == 51
    assert len(data["examples"]) == len(pictures["maps"]) == 9
    assert len(pictures["photos"]) == 6
    assert data["examples"][0]["target"] == "tabby"
    # Undefined (the sixth image's with FullGrad) is not the same as not measured (cIM with one class).
    im, cim, _ = data["examples"][-1]["values"]
    assert im[0] is None
    assert all(isinstance(value, float) for value in im[1:])
    assert data["examples"][0]["values"][1] == ["", "", "", ""]
    assert cim[0] is None


def test_page_loads_nothing(tmp_path):
    page = page_of(browser.made_up_run(tmp_path, images=2, methods=FEW, metrics=("insertion",)))
    assert "default-src 'none'" in page
    without_namespace = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://|<link [^>]*href=\"(?!data:)|@import|src=", without_namespace)


def test_every_table_head_has_a_scope(tmp_path):
    page = page_of(browser.made_up_run(tmp_path, images=2, methods=FEW, metrics=("insertion", "sanity")))
    heads = re.findall(r"<th\b[^>]*>", page)
    assert heads
    assert all("scope=" in head for head in heads)


@pytest.mark.parametrize("name", ["</script><b>", "<!--<script>", "{{data}}", "a&amp;\"'b"])
def test_names_are_not_markup(tmp_path, name):
    run = browser.made_up_run(
        tmp_path,
        images=1,
        methods=("dmbp",),
        metrics=("insertion",),
        names=[name],
        problems=[Problem(name, name)],
        data=name,
    )
    page = page_of(run)
    assert embedded(page, "data")["examples"][0]["image"] == name
    assert page.count("<script") == page.count("</script>") == 3
    assert "<b>" not in page.split("<main>")[0]


def test_empty_run(tmp_path):
    run = browser.made_up_run(tmp_path, images=0, chunks=10)
    page = page_of(run)
    assert "There are no measurements yet." in page
    assert "0 of 120 batches" in page
    assert "<table" not in page


def test_one_method_without_dmbp(tmp_path):
    report = report_of(browser.made_up_run(tmp_path, images=3, methods=("grad_cam",), metrics=("insertion",)))
    (each,) = report.sections[-1].tables
    assert "Wilcoxon" not in str(each.columns)
    assert not any(cell.strong for row in each.rows for cell in row)
    assert render_report(report)


def test_one_image_has_no_interval(tmp_path):
    report = report_of(browser.made_up_run(tmp_path, images=1, methods=FEW, metrics=("insertion",)))
    assert text_of(report.paper[0].tables[0], 0, "95\u00a0%\u00a0interval") == "\u2013"


def test_unfinished_run(tmp_path):
    """A made-up run has one image in a batch; one that could not be read leaves its batch empty, and done."""
    problems = [Problem("broken.jpg", "cannot read broken.jpg")]
    run = browser.made_up_run(
        tmp_path / "a", images=4, methods=FEW, metrics=("insertion",), chunks=6, problems=problems
    )
    page = page_of(run)
    assert "12 of 18 batches are done" in page
    assert "1 sample could not be used" in page
    assert "cannot read broken.jpg" in page
    with open_store(run) as store:
        for chunk in (4, 5):
            for method in FEW:
                store.add(chunk, method, {"insertion": []})
    assert "not finished" not in page_of(run)


def test_unfinished_method(tmp_path):
    run = browser.made_up_run(
        tmp_path, images=4, methods=("dmbp",), metrics=("insertion",), listed=("dmbp", "rise")
    )
    assert "4 of 8 batches are done" in page_of(run)
    assert "RISE" in page_of(run)


def test_published_numbers_beside_ours(tmp_path):
    methods = ("gradient_x_input", "dmbp_positive", "dmbp_posneg", "guided_backprop", "norm_grad", "dmbp")
    run = browser.made_up_run(
        tmp_path,
        images=4,
        methods=methods,
        metrics=("insertion", "sanity"),
        dataset="imagenet",
        model="resnet50",
    )
    report = report_of(run)
    tables = report.paper[0].tables
    assert titles_of(tables) == ["Table 1", "Table 2", "Table 3"]
    assert [row[0].text for row in tables[0].rows] == [
        "Gradient \u00d7 input (ND)",
        "DMBP, y\u207a only",
        "DMBP, y\u207b \u2212 y\u207a",
        "DMBP",
    ]
    assert [text_of(tables[0], row, "published") for row in range(4)] == ["0.26", "0.50", "0.51", "0.57"]
    assert [row[0].text for row in tables[1].rows][-1] == "NormGrad"
    assert text_of(tables[1], 3, "published") == "\u2013"
    assert text_of(tables[2], 0, "published") == "0.99"
    assert "the paper took 5,000 images, this run 4" in report.paper[0].text


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        ({"steps": 200}, None),
        ({"preset": "fast"}, "this run used the preset fast"),
        ({"steps": 20}, "DMBP took 20 steps, in the paper 200"),
        ({"target": "predicted"}, "the paper explains the true classes"),
        ({"split": "train"}, "the paper took the split val, this run train"),
        ({"limit": 2}, "the paper took the whole split, this run 2 images of it"),
    ],
)
def test_departures_from_the_papers_protocol_are_named(tmp_path, config, difference):
    given = {"preset": "paper", "dataset": "voc2012", "model": "vgg16_caffe"} | config
    run = browser.made_up_run(tmp_path, images=2, methods=("dmbp",), metrics=("insertion",), **given)
    text = report_of(run).paper[0].text
    assert (difference in text) if difference else ("Note" not in text)


def test_published_numbers_of_other_networks_are_labelled(tmp_path):
    report = report_of(
        browser.made_up_run(tmp_path, images=4, methods=FEW, metrics=("insertion", "complementary_insertion"))
    )
    (table,) = report.paper[0].tables
    groups = [column.group for column in table.columns]
    assert groups.count("IM published for other networks and images") == 4
    assert groups.count("cIM published for other networks and images") == 2
    assert table.rows[-1][-1].text == "0.42"
    assert "context, not a target" in report.paper[0].text


def test_metrics_of_whole_images_show_at_every_target(tmp_path):
    run = browser.made_up_run(tmp_path, images=2, methods=("dmbp",), metrics=("insertion",))
    with open_store(run) as store:
        image = next(store.rows()).image
        row = browser.Row(image, 77, "dmbp", "class_sensitivity", 0.25, 1.0)
        store.add(99, "dmbp", {"class_sensitivity": [row]})
        report = make_report(store)
    assert report.examples[0].values["class_sensitivity"] == {"dmbp": 0.25}
    assert "for 3 targets" in report.lead


def test_output_and_errors(tmp_path):
    run = browser.made_up_run(tmp_path / "run", images=1, methods=("dmbp",), metrics=("insertion",))
    assert write_report(run) == run / "report.html"
    assert write_report(run, tmp_path / "new" / "page.html").is_file()
    with pytest.raises(InputError, match="holds no evaluation"):
        write_report(tmp_path / "nothing")


@pytest.mark.parametrize(("table", "name"), [("config", "chunks"), ("about", "classes")])
def test_a_run_that_does_not_say_what_the_page_tells_is_named(tmp_path, table, name):
    run = browser.made_up_run(tmp_path / "run", images=1, methods=("dmbp",), metrics=("insertion",))
    with contextlib.closing(sqlite3.connect(run / "results.sqlite")) as connection, connection:
        connection.execute(f"DELETE FROM {table} WHERE name = ?", (name,))
    with pytest.raises(InputError, match=rf"or of another version: it does not say {name}$"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    names = [f"{i:02d}_{browser.NAMES[i % 8]}.JPEG" for i in range(24)]
    names[3] = "</script><b>bold.JPEG"
    run = browser.made_up_run(tmp_path_factory.mktemp("run"), images=24, methods=FEW, names=names)
    return write_report(run).as_uri()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_in_a_browser(page, tmp_path, width, dark):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    with browser.open_browser(tmp_path / "profile", width=width, dark=dark) as driver:

        def find(selector):
            return driver.find_elements(By.CSS_SELECTOR, selector)

        def click(element):
            driver.execute_script(
                "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element
            )
            element.click()

        def wait(condition):
            WebDriverWait(driver, 20, poll_frequency=0.05).until(lambda _: condition())

        def texts(selector):
            return [element.get_attribute("textContent") for element in find(selector)]

        driver.get(page)
        (tmp_path / "top.png").write_bytes(driver.get_screenshot_as_png())
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")

        # Tables: by a number, and turned around.
        column = "#metricinsertion tbody td:nth-child(2)"
        by_mean = find("#metricinsertion thead tr:last-child button")[1]
        click(by_mean)
        assert texts(column) == sorted(texts(column), reverse=True)
        click(by_mean)
        assert texts(column) == sorted(texts(column))
        assert find("#metricinsertion th[aria-sort]")[0].get_attribute("aria-sort") == "ascending"

        # Curves: one taken away and brought back, values at the pointer by keyboard.
        curve = "path.curve[data-method=grad_cam]"
        wait(lambda: len(find(curve)) == 3)
        toggle = find("#legend button[data-method=grad_cam]")[0]
        click(toggle)
        assert toggle.get_attribute("aria-pressed") == "false"
        assert not find(curve)
        assert len(find("path.curve.reference")) == 3
        click(toggle)
        assert len(find(curve)) == 3
        find("#charts svg")[0].send_keys("\ue014")  # arrow right
        assert len(find("figure .tip:not([hidden]) div")) == 3

        # The gallery: made when reached, sorted, filtered.
        click(find("#filter")[0])
        wait(lambda: find("article"))
        assert len(find("article")) < 36
        Select(find("#sort-metric")[0]).select_by_visible_text("Deletion")
        Select(find("#sort-method")[0]).select_by_visible_text("Grad-CAM")
        Select(find("#sort-order")[0]).select_by_visible_text("lowest first")
        shown = [float(value) for value in texts("article .chosen .value")]
        assert len(shown) >= 8
        assert shown == sorted(shown)
        find("#filter")[0].send_keys("ostrich")
        wait(lambda: texts("#shown") == ["6 of 36"])
        assert all("ostrich" in text for text in texts("article h3"))
        find("#filter")[0].clear()
        find("#filter")[0].send_keys("</script><b>")
        wait(lambda: texts("#shown") == ["2 of 36"])
        assert "</script><b>bold.JPEG" in texts("article h3 span")[0]
        pictures = find("article img")
        assert len(pictures) == 2 * (1 + len(FEW))
        driver.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", pictures[0])
        wait(lambda: pictures[0].get_property("naturalWidth") == 112)
        click(find("article summary")[0])
        assert find("article table")[0].is_displayed()

        click(find("#configuration summary")[0])
        assert "squeezenet1_1" in find("#configuration dl")[0].text
        (tmp_path / "end.png").write_bytes(driver.get_screenshot_as_png())
        assert driver.get_log("browser") == []

    for name in ("top.png", "end.png"):
        pixels = np.asarray(PIL.Image.open(io.BytesIO((tmp_path / name).read_bytes())).convert("L"))
        assert pixels.shape[1] == width
        assert pixels.std() > 5
        assert (np.median(pixels) < 60) == dark
