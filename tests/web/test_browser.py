"""The page in a real browser: of a Frontier, and of a Frontlas with its Frontiers."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys

from tests.web.browser import Browser

LOST = 'event: lost\ndata: {"kind":"lost","time":1795000000,"count":17}\n\n'
ONLINE = 'event: edge_online\ndata: {"kind":"edge_online","time":1795000000,"edge_id":"9","meta":"m","addr":"a:1"}\n\n'


def search(browser: Browser, field: str, text: str) -> None:
    browser.named("Search by").send_keys(field)
    browser.write("Text to search", text)


def open_edge(browser: Browser, base: str, meta: str) -> str:
    """The page of the edge with this meta; gives its id."""
    browser.open(base, f"edges?by=meta&text={meta}")
    browser.until("one edge", lambda: len(browser.rows()) == 1 and browser.rows()[0][1] == meta)
    edge_id = browser.rows()[0][0]
    browser.press(edge_id)
    browser.reads(f"Edge {edge_id}")
    browser.one("#call-body")
    return edge_id


def test_the_first_page_shows_numbers_and_charts(browser: Browser, frontier: str) -> None:
    browser.open(frontier)
    browser.until("121 edges", lambda: "121" in browser.one(".tiles").text)
    browser.until("a chart", lambda: browser.all(".chart"))
    label = browser.one(".chart svg").get_attribute("aria-label") or ""
    assert label.partition(":")[0] in browser.text() and "now" in label
    assert browser.driver.title == "Overview · Frontier"
    assert browser.one("nav [aria-current=page]").text == "Overview"


def test_a_list_has_pages_and_says_how_many(browser: Browser, frontier: str) -> None:
    browser.open(frontier, "edges")
    browser.reads("1 to 50 of 121 edges")
    first = [row[0] for row in browser.rows()]
    browser.press("Next page")
    browser.reads("51 to 100 of 121 edges")
    second = [row[0] for row in browser.rows()]
    assert len(first) == len(second) == 50 and not set(first) & set(second)
    browser.press("Next page")
    browser.reads("101 to 121 of 121 edges")
    assert not browser.named("Next page").is_enabled()
    browser.press("Previous page")
    browser.reads("51 to 100 of 121 edges")
    browser.driver.refresh()
    browser.reads("51 to 100 of 121 edges")


def test_a_list_is_searched_by_the_server(browser: Browser, frontier: str) -> None:
    browser.open(frontier, "edges")
    browser.reads("of 121 edges")
    search(browser, "meta", "plant-2/")
    browser.reads("1 to 40 of 40 edges")
    assert all(row[1].startswith("plant-2/") for row in browser.rows())
    edge_id = browser.rows()[3][0]
    search(browser, "id", edge_id)
    browser.reads("1 to 1 of 1 edges")
    assert browser.rows()[0][0] == edge_id
    search(browser, "meta", "nobody")
    browser.reads("Nothing found.")


def test_a_list_is_sorted_by_its_heads(browser: Browser, frontier: str) -> None:
    browser.open(frontier, "edges?by=meta&text=plant-1/")
    browser.reads("of 40 edges")
    browser.press("Meta")
    browser.until("Z to A", lambda: browser.one("th[data-order=meta]").get_attribute("aria-sort") == "descending")
    browser.until("sorted", lambda: metas(browser) == sorted(metas(browser), reverse=True))
    browser.press("Meta")
    browser.until("A to Z", lambda: metas(browser) == sorted(metas(browser)))
    assert browser.one("th[data-order=meta]").get_attribute("aria-sort") == "ascending"


def metas(browser: Browser) -> list[str]:
    return [row[1] for row in browser.rows()]


def test_a_method_is_called(browser: Browser, frontier: str) -> None:
    open_edge(browser, frontier, "plant-0/sensor-000")
    browser.press("echo")
    browser.write("Request", "good morning")
    browser.press("Call")
    browser.reads("Answered in")
    assert browser.one(".payload").text == "good morning"
    browser.named("Hex", "button").click()
    browser.reads("67 6f 6f 64")
    browser.named("JSON", "input").click()
    browser.write("Request", '{"a": [1, 2]}')
    browser.press("Call")
    browser.until("the answer in lines", lambda: browser.one(".payload").text == '{\n  "a": [\n    1,\n    2\n  ]\n}')


def test_what_goes_wrong_with_a_call_is_told_apart(browser: Browser, frontier: str) -> None:
    open_edge(browser, frontier, "plant-0/sensor-003")
    browser.named("Hex", "input").click()
    browser.write("Request", "0x1")
    browser.press("Call")
    browser.reads("Nothing was sent: the number of digits is odd")
    browser.write("Request", "00 ff")
    browser.press("Call")
    browser.until("bytes", lambda: "00 ff" in browser.one(".payload").text)
    browser.write("Method", "fail")
    browser.press("Call")
    browser.reads("The edge answered with an error")
    assert "<b>no</b> such file" in browser.text()
    browser.write("Method", "nobody has this")
    browser.press("Call")
    browser.reads("No answer of the edge")
    browser.write("Method", "slow")
    browser.write("Timeout, seconds", "0.2")
    browser.press("Call")
    browser.until("a timeout", lambda: "504" in browser.one(".outcome").text)
    browser.write("Timeout, seconds", "30")
    browser.press("Call")
    browser.until("a call under way", lambda: "1 call," in browser.one(".facts").text)
    browser.press("Give up")
    browser.reads("Given up after")
    browser.until("no call under way", lambda: "0 calls," in browser.one(".facts").text)
    allowed = ("422", "404", "504", "502", "499")
    assert [each for each in browser.complaints() if not any(status in each for status in allowed)] == []


def test_a_message_is_sent(browser: Browser, frontier: str) -> None:
    open_edge(browser, frontier, "plant-0/sensor-006")
    browser.write("Topic", "orders")
    browser.write("Message", "one more")
    browser.press("Send")
    browser.reads("The edge has acknowledged it after")


def test_kick_asks_first(browser: Browser, frontier: str) -> None:
    edge_id = open_edge(browser, frontier, "plant-1/sensor-004")
    browser.press("Kick this edge")
    browser.one("dialog")
    assert browser.focused() == "Cancel"
    browser.keys(Keys.ESCAPE)
    browser.until("no question", lambda: not browser.all("dialog"))
    assert browser.focused() == "Kick this edge"
    assert "is closed" not in browser.text()
    browser.press("Kick this edge")
    browser.named("Kick", "dialog button").click()
    browser.reads(f"The connection of edge {edge_id} is closed.")
    browser.open(frontier, f"edges?by=edge_id&text={edge_id}")
    browser.reads("Nothing found.")
    browser.complaints(("404",))


def test_events_come_as_they_happen(browser: Browser, frontier: str) -> None:
    browser.open(frontier, "edges?by=meta&text=plant-1/sensor-007")
    browser.until("an edge", lambda: browser.rows() and browser.rows()[0][1].startswith("plant-1/sensor-007"))
    edge_id = browser.rows()[0][0]
    browser.open(frontier, "events")
    browser.reads("Live ·")
    browser.run("fetch(`v1/edges/${arguments[0]}`, {method: 'DELETE'})", edge_id)
    browser.until("its end", lambda: any(row[1:3] == ["edge offline", edge_id] for row in browser.rows()))
    browser.press("Pause")
    browser.reads("0 waiting")
    browser.press("Clear")
    assert browser.rows() == []


def test_lost_events_are_told_and_a_lost_stream_begins_again(browser: Browser, frontier: str) -> None:
    script = f"""
        const real = window.fetch;
        window.streams = 0;
        window.fetch = (path, options) => String(path).startsWith("v1/events")
            ? (window.streams += 1, Promise.resolve(new Response({ONLINE!r} + {LOST!r})))
            : real(path, options);
    """
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        browser.open(frontier, "events")
        browser.reads("17 events lost: this page was too slow.")
        browser.until("a second stream", lambda: browser.run("return window.streams") >= 2)
        browser.reads("34 events lost")
        assert sum(row[1] == "edge online" for row in browser.rows()) >= 2
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_what_hostile_peers_say_is_text(browser: Browser, frontier: str) -> None:
    for place in ("", "edges", "events"):
        browser.open(frontier, place)
        browser.until("the page", lambda: browser.all("h1"))
    browser.open(frontier, "edges?by=meta&text=%3Cimg")
    browser.reads('<img src=x onerror="document.title=1">')
    assert "\\u202egnp.exe\\u0000" in browser.rows()[0][1], "unseen characters are written out"
    browser.press(browser.rows()[0][0])
    browser.one("#call-body")
    browser.press('<script>document.title="2"</script>')
    browser.press("Call")
    browser.one(".payload")
    assert browser.run("return document.querySelectorAll('main img, main script, main iframe').length") == 0
    assert browser.driver.title.startswith("Edge ")


def test_the_servers_page_acts_on_it(browser: Browser, frontier: str) -> None:
    browser.open(frontier, "server")
    browser.reads("Configuration in effect")
    browser.until("the configuration", lambda: "edgebound:" in browser.one(".payload").text)
    browser.named("Log level").send_keys("debug")
    browser.press("Set")
    browser.reads("The log level is debug until the next start.")
    browser.press("Drain")
    browser.one("dialog")
    browser.press("Cancel")
    browser.until("no question", lambda: not browser.all("dialog"))
    assert browser.one("#state").text == "Serving"


def test_all_is_done_with_the_keyboard(browser: Browser, frontier: str) -> None:
    browser.open(frontier)
    browser.until("the first page", lambda: browser.all("h1"))
    browser.keys(Keys.TAB)
    assert browser.focused() == "Skip to the content"
    browser.keys(Keys.TAB, Keys.TAB)
    assert browser.focused() == "Edges"
    browser.keys(Keys.ENTER)
    browser.reads("1 to 50 of")
    assert browser.focused() == "Edges" and browser.one("h1").text == "Edges"
    browser.keys(Keys.TAB)
    assert browser.focused() == "Search by"
    browser.keys(Keys.TAB, "plant-0/sensor-009", Keys.ENTER)
    browser.until("a few edges", lambda: 0 < len(browser.rows()) < 10)
    edge_id = browser.rows()[0][0]
    walk(browser, edge_id)
    browser.keys(Keys.ENTER)
    browser.one("#call-body")
    walk(browser, "Request")
    browser.keys("typed")
    walk(browser, "Call")
    browser.keys(Keys.ENTER)
    browser.until("the answer", lambda: browser.one(".payload").text == "typed")


def walk(browser: Browser, name: str) -> None:
    """Press Tab until the control of that name has the focus."""
    for _ in range(60):
        browser.keys(Keys.TAB)
        if browser.focused() == name:
            return
    raise AssertionError(f"no {name} within 60 steps")


def test_every_control_has_a_name_and_no_page_is_too_wide(browser: Browser, frontier: str) -> None:
    edge_id = open_edge(browser, frontier, "plant-0/sensor-012")
    for place in ("", "edges", f"edges/{edge_id}", "services", "events", "server"):
        browser.open(frontier, place)
        browser.until("a serving server", lambda: browser.one("#state").text == "Serving" and browser.all("h1"))
        for width in (1600, 360):
            browser.size(width, dark=width == 360)
            assert browser.run("return document.documentElement.scrollWidth") <= width, place
        # The rows of a table are alike.
        controls = browser.all(":is(button, a, input, select, textarea):not(tr + tr *)")
        assert [each.get_attribute("outerHTML") for each in controls if not each.accessible_name] == [], place
        ids = browser.run("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(ids) == len(set(ids)), place


def test_a_token_opens_the_page_and_its_roles_say_what_is_offered(browser: Browser, guarded: str) -> None:
    browser.open(guarded)
    browser.reads("Frontier asks for a token")
    browser.write("Token", "wrong-token-0000")
    browser.press("Sign in")
    browser.until("the refusal", lambda: browser.all("dialog .bad"))
    browser.write("Token", "read-only-token-0")
    browser.press("Sign in")
    browser.until("numbers", lambda: "121" in browser.one(".tiles").text)
    browser.press("Edges")
    browser.reads("of 121 edges")
    assert not [each for each in browser.all("button") if each.text == "Kick"]
    browser.press(browser.rows()[0][0])
    browser.reads("need the role “call”, which you do not have")
    assert not browser.all("button.danger, #call-body")
    browser.press("Sign out")
    browser.reads("Frontier asks for a token")
    browser.write("Token", "all-roles-token-0")
    browser.press("Sign in")
    browser.reads("Online since")
    browser.named("Kick this edge")
    assert browser.run("return document.cookie + JSON.stringify(localStorage)") == "{}"
    assert [each for each in browser.complaints() if "401" not in each] == []


def test_the_page_of_a_cluster_shows_its_frontiers(browser: Browser, frontlas: str) -> None:
    browser.open(frontlas)
    browser.until("three cards", lambda: len(browser.all(".map li")) == 3)
    cards = [card.text for card in browser.all(".map li")]
    assert "gone, seen" in cards[0] and '<img src=x onerror="document.title=1">' in cards[0]
    assert "connected" in cards[1] and "60 edges" in cards[1] and "1 service" in cards[1]
    assert browser.driver.title == "Cluster · Frontlas"
    browser.press("east")
    browser.reads("50 edges on page 1")
    assert {row[2] for row in browser.rows()} == {"east"}
    browser.press("Next page")
    browser.reads("10 edges on page 2")
    assert not browser.named("Next page").is_enabled()
    browser.press("Previous page")
    browser.reads("50 edges on page 1")
    browser.press("Frontiers")
    browser.reads("3 Frontiers, 1 gone")


def test_an_edge_of_a_cluster_is_found_called_and_kicked(browser: Browser, frontlas: str) -> None:
    browser.open(frontlas, "edges")
    browser.reads("50 edges on page 1")
    search(browser, "id", "9100000000000000007")
    browser.until("one edge", lambda: len(browser.rows()) == 1)
    assert browser.rows()[0][1:3] == ["plant-1/sensor-007", "west"]
    browser.press("9100000000000000007")
    browser.one("#call-body")
    assert "west" in browser.one(".facts").text
    browser.write("Request", "over the cluster")
    browser.press("Call")
    browser.until("the answer", lambda: browser.one(".payload").text == "over the cluster")
    browser.press("Kick this edge")
    browser.named("Kick", "dialog button").click()
    browser.reads("The connection of edge 9100000000000000007 is closed.")
    assert [each for each in browser.complaints() if "404" not in each] == []


def test_drain_is_the_end_and_the_page_says_so(browser: Browser, guarded: str) -> None:
    browser.open(guarded)
    browser.write("Token", "all-roles-token-0")
    browser.press("Sign in")
    browser.press("Server")
    browser.press("Drain")
    browser.named("Drain", "dialog button").click()
    browser.reads("Frontier is draining.")
    browser.until("its end", lambda: browser.one("#state").text == "No answer")
    assert [each for each in browser.complaints() if "401" not in each and "ERR_CONNECTION" not in each] == []
