"""The HTML report in tests: its elements, its data, and the page of a few entries."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from phasebench.report.entries import Entry
from phasebench.report.html_page import page
from phasebench.report.results import Failure, Results

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements in order; fails on one that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def attributes(self, *names: str) -> list[str]:
        return [value or "" for _, attrs in self.elements for key, value in attrs.items() if key in names]

    @property
    def data(self) -> Any:
        return json.loads(
            re.findall(r'<script type="application/json" id="data">(.*?)</script>', self.text)[0]
        )


def page_of(*entries: Entry, failures: Sequence[Failure] = (), interrupted: str = "") -> Page:
    return Page(page(Results.of(entries, failures, interrupted)))
