"""The status page's files: what they hold, whatever the names are, and that they are what they say."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import html5lib
import jsonschema
import pytest

from mirror.status.values import Held, Incident, Place, RegistryStatus, Status, TagStatus
from tests.support.browser import Browser
from tests.support.fleet import made
from tests.support.nu import complaints
from tests.support.sharing import Sharing
from tests.support.statuses import NOW, behind, large, mirror, registries, sample, tag
from workers.page.files import write
from workers.page.render import badge, feed, file_of_badge, files, page, policy, schema
from workers.page.words import images

ROOT = Path(__file__).parents[2]
ATOM = "{http://www.w3.org/2005/Atom}"
MOST_BYTES = 1_000_000
PICTURES = (
    ("desktop", "light", 1440, 1000),
    ("tablet", "dark", 820, 1180),
    ("phone", "light", 390, 844),
)
SCRIPT = "<script>document.title='owned'</script>"
HOSTILE = (
    SCRIPT,
    "\"'><img src=x onerror=alert(1)>",
    "</style></title><svg onload=alert(2)>",
    "{{ 7*7 }}{% raw %}",
    "]]><!--",
    "\u202eevil\u202c\x00\x1b[31m\ud800"[:-1],
    "javascript:alert(3)",
    "&lt;b&gt;&amp;",
    "x" * 3000,
    "../../etc/passwd",
)


def hostile() -> Status:
    """Every text of it is an attempt."""
    mirrors = tuple(
        replace(
            mirror(
                text,
                "behind",
                text,
                (behind(text, NOW - 5), TagStatus(text, text, (Held("same", text),) * 3)),
            ),
            places=(
                Place(text, text, "source", text, text),
                Place("r.example/a", "r.example", "target", text, f"docker pull {text}"),
                Place(text, "", "target", text, ""),
            ),
            platforms=(text,),
        )
        for text, same in ((text, (Held("same", text),) * 3) for text in HOSTILE)
    )
    views = registries()[2].views
    known = tuple(
        RegistryStatus(
            text, tuple(replace(one, region=text, reason=text) for one in views), registries()[0].limit
        )
        for text in HOSTILE
    )
    incidents = tuple(Incident(text, NOW, "registry_down", text, text) for text in HOSTILE)
    return Status(NOW, SCRIPT, mirrors, known, incidents)


def parsed(html: str) -> Any:
    """The tree, as HTML's own rules make it; raises where anything of it is not as it should be."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


@pytest.mark.parametrize("status", [sample(), hostile(), Status(NOW, "Empty", (), (), ())])
def test_the_page_is_html_without_scripts_or_anything_from_elsewhere(status: Status) -> None:
    tree = parsed(page(status))
    elements = list(tree.iter())
    assert not {one.tag for one in elements} & {
        "script",
        "img",
        "iframe",
        "object",
        "form",
        "base",
        "a:script",
    }
    attributes = [(name, value) for one in elements for name, value in one.attrib.items()]
    assert not [name for name, _ in attributes if str(name).startswith("on") or name in {"style", "src"}]
    targets = {value for name, value in attributes if name == "href"}
    assert all(
        re.match(r"#[rm]-|#(registries|mirrors|incidents)$|status\.json$|feed\.atom$", one) for one in targets
    )
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {one[1:] for one in targets if one.startswith("#")} <= set(ids)


def test_the_html_its_style_and_the_badges_are_as_their_standards_say(tmp_path: Path) -> None:
    known = {"sample": sample(), "hostile": hostile(), "empty": Status(NOW, "Empty", (), (), ())}
    for name, status in {**known, "large": large(500)}.items():
        (tmp_path / f"{name}.html").write_text(page(status))
        for number, one in enumerate(status.mirrors[:20]):
            (tmp_path / f"{name}-{number}.svg").write_text(badge(one))
    assert complaints(tmp_path) == []


def test_the_checker_of_the_page_does_complain(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(page(sample()).replace("<h1>", "<h1 align=center>", 1))
    (tmp_path / "app.svg").write_text(badge(sample().mirrors[0]).replace("<rect ", "<recto ", 1))
    (tmp_path / "style.html").write_text(page(sample()).replace("margin:0", "margin:none", 1))
    assert {one.partition(":")[0] for one in complaints(tmp_path)} == {"index.html", "app.svg", "style.html"}


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; base-uri 'none'; form-action 'none'", policy()
    )
    assert policy() in page(sample()).replace("&#39;", "'")


def test_hostile_names_are_text_in_every_file() -> None:
    status = hostile()
    texts = {text for one in parsed(page(status)).iter() for text in (one.text or "", one.tail or "")}
    assert SCRIPT in texts
    for one in status.mirrors:
        svg = ET.fromstring(badge(one))
        assert {part.tag.rpartition("}")[2] for part in svg.iter()} == {"svg", "title", "rect", "g", "text"}
    atom = ET.fromstring(feed(status, None))
    assert SCRIPT in {one.text for one in atom.iter(f"{ATOM}title")}
    assert json.loads(dict(files(status))["status.json"])["title"] == SCRIPT


def test_a_state_is_never_said_by_a_colour_alone() -> None:
    tree = parsed(page(sample()))
    pills = [one for one in tree.iter("span") if "b" in one.attrib.get("class", "").split()]
    words = {"".join(one.itertext()) for one in pills}
    assert words == {"✓ in step", "◷ behind", "≠ differs", "? unknown", "✓ up", "◐ partly up", "✕ down"}
    for one in tree.iter("svg"):
        assert one.attrib["aria-label"].startswith("of 30 days: ")


def test_mirrors_with_something_to_see_come_first() -> None:
    names = re.findall(r'<section id="m-(\w+)"', page(sample()))
    assert names == ["database", "web", "tools", "explorer"]


@pytest.mark.parametrize(
    ("signed", "said", "notes"),
    [
        ((True, True), "on every tag", ("", "")),
        ((False, False), "none found", ("", "")),
        ((True, False), "on 1 of 2 tags", ("signed", "unsigned")),
        ((True, None), "on 1 of 2 tags, 1 not known", ("signed", "")),
        ((None, None), "", ("", "")),
    ],
)
def test_signatures_are_told_of_each_tag_only_where_these_differ(
    signed: tuple[bool | None, ...], said: str, notes: tuple[str, ...]
) -> None:
    tags = tuple(tag(str(number), signed=one) for number, one in enumerate(signed))
    told = images(mirror("app", tags=tags))
    assert (told.signatures, told.notes) == (said, notes)
    assert images(mirror("app", tags=tags, signatures=False)).signatures == "not copied"


def test_platforms_that_are_not_copied_are_told_of_each_tag_only_where_these_differ() -> None:
    kept, riscv = ("linux/amd64",), ("linux/riscv64",)
    alike = images(mirror("app", platforms=kept, tags=(tag("1", left_out=riscv), tag("2", left_out=riscv))))
    assert (alike.platforms, alike.notes) == ("only linux/amd64, not linux/riscv64", ("", ""))
    apart = images(mirror("app", platforms=kept, tags=(tag("1", left_out=riscv), tag("2", left_out=()))))
    assert (apart.platforms, apart.notes) == ("only linux/amd64", ("without linux/riscv64", ""))


def test_the_page_says_what_of_a_tag_is_not_in_a_registry() -> None:
    (section,) = (one for one in parsed(page(sample())).iter("section") if one.get("id") == "m-explorer")
    cells = ["".join(one.itertext()) for one in section.iter("td")]
    assert cells[0] == "latest signed, without linux/riscv64"
    assert "≠ unsigned403 DENIED" in page(sample()).replace('<br><span class="d">', "")


def test_why_tags_are_not_the_same_is_told_once() -> None:
    tags = tuple(behind(name, NOW - 5) for name in ("1", "2"))
    assert images(mirror("app", tags=tags)).reasons == (("", "", "503 Service Unavailable"), ("", "", ""))
    assert page(Status(NOW, "One", (mirror("app", tags=tags),), (), ())).count("503 Service") == 1


def test_verifying_says_what_is_wrong_and_not_what_is_not() -> None:
    html = page(sample())
    assert "verified: 1 missing</b>" in html
    assert ", faults found" in html
    assert ", nothing wrong" in html


def test_times_are_for_programs_too() -> None:
    tree = parsed(page(sample()))
    times = [one.attrib["datetime"] for one in tree.iter("time")]
    assert times
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one) for one in times)


@pytest.mark.parametrize("status", [sample(), Status(NOW, "Empty", (), (), ())])
def test_status_json_is_as_its_schema_says(status: Status) -> None:
    document = json.loads(dict(files(status))["status.json"])
    known = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(known)
    jsonschema.validate(document, known)
    assert document["schema"] == 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"schema": 2}, known)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "registries": None}, known)


def test_the_published_schema_is_the_one_that_is_written() -> None:
    assert (ROOT / "docs" / "status.schema.json").read_text() == schema()


def test_a_badge_says_how_a_mirror_stands() -> None:
    svg = badge(mirror("web", "behind"))
    assert [one.text for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")] == [
        "web",
        "behind",
    ]
    assert file_of_badge("web") == "badges/web.svg"
    assert file_of_badge("../web") == "badges/..%2Fweb.svg"


def test_the_feed_is_atom_and_its_entries_keep_their_ids() -> None:
    url = "https://status.example.org/"
    first, later = (ET.fromstring(feed(one, url)) for one in (sample(), replace(sample(), made=NOW + 99)))
    assert first.tag == f"{ATOM}feed"
    for tree in (first, *first.iter(f"{ATOM}entry")):
        for name in ("id", "title", "updated"):
            found = tree.findall(f"{ATOM}{name}")
            assert len(found) == 1, f"RFC 4287 wants one {name}"
            assert found[0].text
        assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", tree.findtext(f"{ATOM}id", ""))
        assert re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", tree.findtext(f"{ATOM}updated", ""))
    assert first.find(f"{ATOM}author/{ATOM}name") is not None
    ids = [[one.text for one in tree.iter(f"{ATOM}id")] for tree in (first, later)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])
    links = {one.attrib["rel"]: one.attrib["href"] for one in first.findall(f"{ATOM}link")}
    assert links == {"alternate": url, "self": f"{url}feed.atom"}


def test_a_page_of_500_mirrors_stays_below_a_megabyte() -> None:
    html = page(large(500))
    assert html.count('<section id="m-') == 500
    assert html.count("docker pull ") == 1500
    assert html.count("same everywhere") == 5000
    assert len(html.encode()) < MOST_BYTES


def test_files_are_replaced_whole_and_badges_of_mirrors_that_are_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("mine")
    write(tmp_path, files(sample()))
    held = (tmp_path / "index.html").open()
    old = held.read(10)
    one = replace(sample(), mirrors=sample().mirrors[:1])

    written = write(tmp_path, files(one))

    assert old + held.read() == page(sample()), "who reads the old one reads it to its end"
    held.close()
    assert written[-1].name == "index.html", "what it links to is there before it"
    assert [path.name for path in (tmp_path / "badges").iterdir()] == ["explorer.svg"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"own.txt", "index.html", "status.json", "status.schema.json", "feed.atom", "badges"}
    assert (tmp_path / "index.html").stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_written_leaves_what_there_was_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("before")
    (tmp_path / "status.json").mkdir()
    with pytest.raises(OSError, match=r"status\.json"):
        write(tmp_path, files(sample()))
    assert (tmp_path / "index.html").read_text() == "before"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_fits_all_sizes_is_readable_and_asks_nobody(tmp_path: Path, scheme: str) -> None:
    status = hostile()
    both = replace(
        sample(),
        title=HOSTILE[1],
        mirrors=(*sample().mirrors, *status.mirrors),
        registries=(*sample().registries, *status.registries),
        incidents=(*sample().incidents, *status.incidents),
    )
    (tmp_path / "index.html").write_text(page(both))
    with Sharing(tmp_path) as server, Browser(made(tmp_path / "browser")) as browser:
        browser.prefer(scheme)
        browser.open(f"{server.url}/index.html")
        for width, height in ((360, 740), (390, 844), (820, 1180), (1440, 900)):
            browser.resize(width, height)
            assert browser.run(_TOO_WIDE) == []
        assert browser.run("return document.title") == HOSTILE[1]
        assert browser.run("return document.scripts.length") == 0
        assert browser.run(_LEAST_CONTRAST) >= 4.5, "as WCAG 2 AA wants"
        assert server.paths == ["/index.html"]


def test_usual_names_fit_a_small_phone_and_what_the_pictures_of_the_docs_show(tmp_path: Path) -> None:
    """With SEALIFT_TEST_SCREENSHOTS set new ones are taken."""
    (tmp_path / "index.html").write_text(page(sample()))
    with Sharing(tmp_path) as server, Browser(made(tmp_path / "browser")) as browser:
        browser.open(f"{server.url}/index.html")
        for name, scheme, width, height in (*PICTURES, ("", "light", 360, 740)):
            browser.prefer(scheme)
            browser.resize(width, height)
            assert browser.run(_TOO_WIDE) == browser.run(_CUT) == []
            if name and os.environ.get("SEALIFT_TEST_SCREENSHOTS"):
                browser.screenshot(ROOT / "docs" / f"page-{name}.png")


_TOO_WIDE = """
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= width) return [];
return [...document.body.querySelectorAll('*')]
  .filter(e => e.getBoundingClientRect().right > width && !e.closest('.t'))
  .map(e => e.outerHTML.slice(0, 80));
"""
_CUT = """
return [...document.querySelectorAll('.t')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent);
"""
_LEAST_CONTRAST = """
const channel = v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 };
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const rgb = s => s.match(/[\\d.]+/g).map(Number);
const ground = e => {
  for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3]) return c;
  }
  return [255, 255, 255];
};
let least = 21;
for (const e of document.body.querySelectorAll('*')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
  least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
}
return least
"""
