"""What a visitor of the page does in the tests of every tab."""

import pytest

from cifar_torch.webui.words import Words

TABS = ("classify", "inside", "results", "train", "code")
CONTENT = {  # what is there once a tab has all it shows
    "classify": "#answer img",
    "inside": "#steps table",
    "results": "#results .curves img",
    "train": "#training p",
    "code": "#calls pre",
}
browser_test = pytest.mark.browser


def open_tab(page, name: str) -> None:
    """Go to a tab as a visitor does, through the menu of tabs where the page is narrow."""
    language = page.evaluate("document.documentElement.lang")
    label = Words(language)(f"tab.{name}")
    tab = page.get_by_role("tab", name=label, exact=True)
    if tab.is_visible():
        tab.click()
    else:
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown").get_by_text(label).click()


def choose_example(page, caption: str) -> str:
    """Click on an example, and read the answer."""
    before = page.locator("#answer").inner_text()
    page.locator("#examples").get_by_role("button", name=caption, exact=True).click()
    page.wait_for_function(
        "before => document.querySelector('#answer').innerText !== before", arg=before
    )
    return page.locator("#answer .sentence").inner_text()
