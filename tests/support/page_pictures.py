"""Make the documentation's pictures of the web page: ``python -m tests.support.page_pictures doc/page``."""

import sys
from pathlib import Path

from PIL import Image

from tests.support.browser import SIZES, chromium, opened
from tests.support.generated_servers import GeneratedSource
from tests.support.served_page import served

_COLOURS = 96
_WARM_SECONDS = 12


def main(folder: Path) -> None:
    """Write a picture for each screen size, light and dark."""
    folder.mkdir(exist_ok=True)
    with chromium() as browser, served(GeneratedSource(3, 4, 70)) as page:
        for size in SIZES:
            for scheme in ("light", "dark"):
                path = folder / f"{size}-{scheme}.png"
                with opened(browser, page.url, size, color_scheme=scheme) as shown:
                    shown.wait_for_selector("#servers-table tbody th")
                    shown.wait_for_timeout(1000 * _WARM_SECONDS)  # until rates are known
                    shown.screenshot(path=path)
                Image.open(path).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
