"""The pages in a real browser: nothing complains, nothing runs, everything can be seen and reached from the keyboard."""

import itertools
import json
import os
import shutil

import pytest

from flatconv.report import html as report
from tests.report import pages

BROWSER = [p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))]
DRIVER = shutil.which("chromedriver")

CONTRAST = """
const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => {
  for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; }
  return [255, 255, 255, 1];
};
const found = [];
for (const e of document.body.querySelectorAll("*")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "STYLE", "title", "desc"].includes(e.tagName) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const colour = parse(e instanceof SVGElement ? style.fill : style.color);
  const [low, high] = [light(colour), light(ground(e))].sort((a, b) => a - b);
  found.push([(high + 0.05) / (low + 0.05), e.tagName, e.textContent.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One session for all tests; a missing browser is a fault only where tests must be complete."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        lacks = "the package selenium"
    else:
        lacks = "" if BROWSER and DRIVER else "chromium" if not BROWSER else "chromedriver"
    if lacks:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"pages cannot be looked at without {lacks}")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER[0]
    data = tmp_path_factory.mktemp("browser")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", f"--user-data-dir={data}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get("about:blank")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pages as files."""
    many = [pages.site(f"net.{i}", groups=((i % 3,),), channels=1 + i % 7) for i in range(120)]
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "mixed": report.audit_html(pages.mixed()),
        "fold": report.fold_html(pages.folded(), pages.MEASURED),
        "hostile": report.fold_html(pages.hostile()),
        "many": report.audit_html(pages.audit(many)),
        "empty": report.audit_html(pages.audit([])),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def show(browser, made):
    """Open a page, on a screen of some width, by day or by night."""

    def opened(name, width=1100, scheme="light", media=""):
        for log in ("browser", "performance"):
            browser.get_log(log)  # what was said of another page is gone with it
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((made / f"{name}.html").as_uri())
        return browser

    return opened


def orders(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#layers > li')].map((r) => +r.dataset.network)"
    )


def press(browser, keys):
    browser.switch_to.active_element.send_keys(keys)


@pytest.mark.parametrize("name", ["mixed", "fold", "hostile", "many", "empty"])
def test_nothing_complains_runs_or_is_asked_for(show, made, name):
    browser = show(name)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # The browser's own first tab asks for parts of the browser.
    urls = {a["request"]["url"] for a in asked if not a["documentURL"].startswith("chrome")}
    assert urls <= {(made / f"{name}.html").as_uri(), "data:,"}
    count = "return [document.scripts.length, document.querySelectorAll('img,iframe,object,embed,form').length]"
    assert browser.execute_script(count) == [1, 0]
    # Any handler in an attribute would be a name that got out of its place.
    handlers = (
        "return [...document.querySelectorAll('*')].flatMap((e) => [...e.attributes])"
        ".filter((a) => /^on/i.test(a.name)).length"
    )
    assert browser.execute_script(handlers) == 0
    assert browser.execute_script("return window.hacked === undefined")


def test_no_foreign_script_can_run(show):
    browser = show("mixed")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s);"
        "const d = document.createElement('div'); d.setAttribute('onclick', 'window.hacked = 1');"
        "document.body.append(d); d.click();"
    )
    assert browser.execute_script("return window.hacked === undefined")
    assert any("Content Security Policy" in e["message"] for e in browser.get_log("browser"))


def test_drawings_are_there_and_agree_with_the_audit(show):
    browser = show("mixed")
    taps = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('symbol[id^=kernel]')].map((s) => [s.id,"
        "['live', 'dead', 'merged'].map((k) => s.querySelectorAll('.slice .tap.' + k).length)]))"
    )
    layers = report._layers(pages.mixed(), ())[1]
    assert taps.keys() == {layer.kernel.id for layer in layers}
    for layer in layers:
        site, drawn = layer.site, layer.kernel.drawing
        if drawn.cells == drawn.face and all(s.first == s.last for s in drawn.sheets):
            face = drawn.face[0] * drawn.face[1]
            alone = len(site.live_taps) - len(site.merged_taps)
            assert taps[layer.kernel.id] == [alone * face, len(site.dead_taps) * face, len(site.merged_taps) * face]
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.cards .kernel use')].map((u) => u.getBBox()).map((b) => [b.width, b.height])"
    )
    assert len(drawn) == len({layer.kernel.id for layer in layers})
    assert all(width > 20 and height > 20 for width, height in drawn)
    fills = (
        "return [...document.querySelectorAll('.bar-wasted')].every((r) => getComputedStyle(r).fill.includes('#hatch'))"
    )
    assert browser.execute_script(fills)


def test_layers_are_sorted_from_the_keyboard(show):
    from selenium.webdriver.common.keys import Keys

    browser = show("mixed")
    sites = pages.mixed().sites
    press(browser, Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    reached = []
    for _ in range(6):
        press(browser, Keys.TAB)
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("data-sort"))
        assert active.value_of_css_property("outline-style") == "solid"
        if reached[-1] == "waste":
            break
    assert reached[-1] == "waste"
    press(browser, Keys.SPACE)
    wasted = [sites[i].macs - sites[i].useful_macs for i in orders(browser)]
    assert wasted == sorted(wasted, reverse=True)
    pressed = "return [...document.querySelectorAll('[data-sort]')].map((b) => b.getAttribute('aria-pressed'))"
    assert browser.execute_script(pressed) == ["false", "true"]
    assert "Most waste first" in browser.execute_script("return document.getElementById('sorted').textContent")
    browser.switch_to.active_element.send_keys(Keys.SHIFT + Keys.TAB)
    press(browser, Keys.ENTER)
    assert orders(browser) == list(range(len(sites)))
    press(browser, Keys.TAB)
    press(browser, Keys.TAB)
    press(browser, Keys.ENTER)
    assert browser.execute_script("return document.querySelector('#layers details').open")


def test_a_long_list_is_folded_until_asked_for(show):
    browser = show("many")
    visible = "return [...document.querySelectorAll('#layers > li')].filter((r) => r.getClientRects().length).length"
    assert browser.execute_script(visible) == report.SHOWN
    browser.execute_script("document.querySelector('[data-sort=waste]').click()")
    assert browser.execute_script(visible) == report.SHOWN
    browser.execute_script("document.getElementById('all-layers').click()")
    assert browser.execute_script(visible) == 120
    browser = show("many", media="print")
    assert browser.execute_script(visible) == 120


@pytest.mark.parametrize("width", [320, 360, 700, 1100])
@pytest.mark.parametrize("name", ["mixed", "fold", "hostile"])
def test_no_page_is_wider_than_the_screen(show, name, width):
    browser = show(name, width)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["mixed", "fold"])
def test_text_can_be_read_by_day_and_by_night(show, name, scheme):
    browser = show(name, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = browser.execute_script(CONTRAST)
    assert len(found) > 50
    assert [f for f in found if f[0] < 4.5] == []
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_drawings_are_read_out_with_words(show):
    browser = show("mixed")
    named = browser.execute_script(
        "return [...document.querySelectorAll('svg[role=img]')].map((s) => "
        "s.getAttribute('aria-labelledby').split(' ').map((i) => document.getElementById(i)?.textContent.trim() ?? ''))"
    )
    assert named
    assert all(len(words) == 2 and all(words) for words in named)
    assert browser.execute_script("return document.querySelectorAll('h1').length") == 1
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map((h) => +h.tagName[1])")
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_screenshot_is_not_blank(show):
    image = pytest.importorskip("PIL.Image")
    import io

    browser = show("mixed")
    picture = image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    shown = {colour for _, colour in picture.getcolors(1 << 24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= shown
