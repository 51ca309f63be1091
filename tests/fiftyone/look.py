"""FiftyOne's App as a browser shows it."""

from pathlib import Path

from tests.browser import tab

DISMISS = (
    "[...document.querySelectorAll('*')]"
    ".filter(e => !e.children.length && ['Disable', 'Dismiss'].includes(e.textContent.trim()))"
)
"""What closes that which lies over the pictures."""


def shoot_app(page: str, profile: Path, target: Path, size: str = "1400,900") -> None:
    """Open a dataset and write what is seen once its pictures are there.

    Args:
        page: The address.
        profile: Folder for what the browser keeps.
        target: The PNG.
        size: Width and height of the page in pixels.
    """
    with tab(profile, size) as browser:
        browser.open(page)
        browser.wait_for("document.querySelectorAll('canvas').length >= 8")
        browser.wait_for(f"{DISMISS}.forEach(e => e.click()) || {DISMISS}.length === 0")
        browser.settle()
        browser.shoot(target)
