"""The second tab: the picture layer by layer, and the colours of maps."""

import numpy as np

from cifar_torch.webui.pictures import colours, overlay
from tests.webui.visitor import browser_test, choose_example, open_tab


def look_inside(visit, name: str):
    """The page with this example in the second tab."""
    page = visit()
    choose_example(page, name)
    open_tab(page, "inside")
    page.get_by_text(f"what points to “{name}”").wait_for()
    return page


@browser_test
def test_a_visitor_follows_the_picture_through_the_network(visit):
    page = look_inside(visit, "dog")
    rows = page.locator("#layers label").all_inner_texts()
    assert len(rows) == 19
    assert rows[0].split() == ["conv2d", "32", "×", "32", "×", "32", "896"]
    assert page.locator("#layer [data-tile]").count() == 32

    page.locator("#layers label", has_text="conv2d_5").click()
    page.get_by_role("heading", name="conv2d_5: convolution and ReLU").wait_for()
    assert page.locator("#layer [data-tile]").count() == 128

    page.locator("#layers label", has_text="dense_2").click()
    page.get_by_role("heading", name="dense_2").wait_for()
    assert page.locator("#layer .bars li").first.inner_text().startswith("dog")
    assert page.locator("#place").is_hidden()


@browser_test
def test_the_last_of_quick_clicks_counts(visit):
    page = visit()
    open_tab(page, "inside")
    page.locator("#steps .place").first.wait_for()
    layers = page.locator("#layers label")
    for pause, last in ((40, 8), (60, 2), (80, 10), (100, 4), (120, 6)):
        for i in (0, 3, 16, last):
            layers.nth(i).click()
            page.wait_for_timeout(pause)
        name = layers.nth(last).inner_text().split()[0]
        page.locator("#layer h3", has_text=f"{name}:").wait_for()
        page.wait_for_timeout(500)  # nothing that was late replaces it
        assert page.locator("#layer h3").inner_text().startswith(f"{name}:")


@browser_test
def test_the_arithmetic_follows_whatever_is_typed(visit):
    page = visit()
    open_tab(page, "inside")
    page.get_by_text("an example, as you have chosen no picture").wait_for()
    box = page.locator("#place input[type=number]").first
    for typed, row in (("20", 20), ("99", 31), ("3.7", 4), ("", 0)):
        box.fill(typed)
        box.press("Tab")
        page.get_by_text(f"at row {row}, column").wait_for()
    assert page.locator("[data-testid=toast-text]").count() == 0


@browser_test
def test_the_arithmetic_follows_a_click_into_the_picture(visit):
    page = visit()
    choose_example(page, "truck")
    open_tab(page, "inside")
    place = page.locator("#steps .place").first
    box = place.bounding_box()
    place.click(position={"x": box["width"] * 20.5 / 32, "y": box["height"] * 9.5 / 32})
    page.get_by_text("at row 9, column 20").wait_for()
    assert page.locator("#place input[type=number]").first.input_value() == "9"

    patch, kernel, products = (
        np.array([float(n.replace("\N{MINUS SIGN}", "-")) for n in table.inner_text().split()])
        for table in page.locator("#steps .product").first.locator("table").all()
    )
    np.testing.assert_allclose(patch * kernel, products, atol=0.02)


@browser_test
def test_a_pooling_shows_its_window_and_another_map_can_be_chosen(visit):
    page = visit("vi")
    open_tab(page, "inside")
    page.locator("#layers label", has_text="max_pooling2d_1").click()
    page.locator("#steps .marked").first.wait_for()
    cells = page.locator("#steps .matrix td").all_inner_texts()
    values = [float(c.replace(",", ".")) for c in cells]
    marked = page.locator("#steps .marked").first.inner_text()
    assert float(marked.replace(",", ".")) == max(values)
    tile = page.locator("#layer [data-tile]").nth(5)
    tile.focus()
    page.keyboard.press("Enter")
    page.get_by_text(f"bản đồ đặc trưng {tile.get_attribute('data-tile')} được tính").wait_for()
    assert tile.get_attribute("aria-pressed") == "true"


@browser_test
def test_grad_cam_can_be_asked_for_another_class(visit):
    page = look_inside(visit, "ship")
    page.locator("#cam-class input").click()
    page.get_by_role("option", name="frog").click()
    page.get_by_text("what points to “frog”").wait_for()


def test_what_counts_is_lit_and_the_rest_is_dark_and_grey():
    pixels = np.full((4, 4, 3), (200, 100, 0), np.uint8)
    heat = np.zeros((4, 4))
    heat[1, 1] = 1
    lit = overlay(pixels, heat)
    assert tuple(lit[1, 1]) == (200, 100, 0)
    assert tuple(lit[0, 0]) == (35, 35, 35)


def test_colours_run_from_dark_to_light():
    light = colours(np.linspace(0, 1, 50)).astype(int).sum(axis=1)
    assert light[0] < light[25] < light[-1]
    assert tuple(colours(np.array([1.0]))[0]) == (253, 231, 37)
