"""The files of the web page as they are handed out."""

from __future__ import annotations

import gzip
import re

import pytest

from frontier_tx.web import web_files

FILES = {file.path: file for file in web_files("frontier")}
LIGHT = 100_000


class Asked:
    """A request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


def read(path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    status, fields, body = FILES[path].serve(Asked(headers))
    return status, dict(fields), body


def test_the_page_is_light() -> None:
    assert sum(len(read(path)[2]) for path in FILES) < LIGHT


@pytest.mark.parametrize("path", sorted(FILES))
def test_each_file_comes_with_the_strict_policy(path: str) -> None:
    status, headers, body = read(path)
    policy = dict(rule.partition(" ")[::2] for rule in headers["Content-Security-Policy"].split("; "))
    assert (status, bool(body)) == (200, True)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"].partition(";")[0] in ("text/html", "text/css", "text/javascript", "image/svg+xml")


def test_the_page_has_nothing_inline_and_nothing_of_other_hosts() -> None:
    page = read("/")[2].decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page) == []
    for path in FILES:
        text = read(path)[2].decode().replace("http://www.w3.org/", "")
        assert "://" not in text, f"{path} names another host"
        assert not re.search(r"innerHTML|insertAdjacentHTML|outerHTML|document\.write|\beval\(", text), path


def test_all_that_the_page_asks_for_is_there() -> None:
    for path in FILES:
        text = read(path)[2].decode()
        folder = path.rpartition("/")[0]
        for name in re.findall(r'(?:from|href=|src=)\s*"(?!#)([^"]+)"', text):
            parts = f"{folder}/{name}".replace("/./", "/").split("/")
            while ".." in parts:
                at = parts.index("..")
                del parts[at - 1 : at + 1]
            assert "/".join(parts) in FILES, f"{path} asks for {name}"


def test_a_copy_that_is_the_same_is_not_sent_again() -> None:
    _, headers, _ = read("/ui/main.js")
    again, fields, body = read("/ui/main.js", **{"if-none-match": headers["ETag"]})
    assert (again, body, fields["Cache-Control"]) == (304, b"", "no-cache")
    assert "Content-Security-Policy" in fields
    assert read("/ui/main.js", **{"if-none-match": 'W/"other"'})[0] == 200


@pytest.mark.parametrize(
    ("accepted", "packed"), [("gzip, deflate, br", True), ("br", False), ("gzip;q=0", False), ("", False)]
)
def test_it_is_packed_for_who_takes_that(accepted: str, packed: bool) -> None:
    _, headers, body = read("/ui/app.css", **{"accept-encoding": accepted})
    assert (headers.get("Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(body) if packed else body) == read("/ui/app.css")[2]


def test_each_product_has_its_name() -> None:
    frontlas = next(file for file in web_files("frontlas") if file.path == "/")
    assert b'data-product="frontlas"' in frontlas.plain
    assert b'data-product="frontier"' in read("/")[2]
