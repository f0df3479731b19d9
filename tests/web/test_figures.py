"""The figures that the page draws are among those that the server tells."""

from __future__ import annotations

import json
import re
from urllib.request import urlopen

from frontier_tx.web import web_files

#: There once a call has been answered.
NOT_YET = {"frontier_call_seconds"}


def test_each_figure_of_the_page_is_told(frontier: str) -> None:
    text = next(file.plain.decode() for file in web_files("frontier") if file.path == "/ui/figures.js")
    wanted = set(re.findall(r'"(frontier_\w+)"', text)) - NOT_YET
    with urlopen(f"{frontier}/v1/server/stats") as answer:
        stats = json.load(answer)
    told = {key.partition("{")[0] for table in ("counters", "gauges", "quantiles") for key in stats[table]}
    assert wanted
    assert wanted - told == set()
