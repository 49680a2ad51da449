"""Every page says the same over PostgreSQL as over SQLite: no query of a page knows only one of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from registry.database import Database
from tests.api.billing_world import PERIOD
from tests.api.screens.reader_world import make_talkative
from tests.api.screens.test_reader import PAGES
from tests.api.world import World, client

NARROWED = (
    "/alarms?view=all&priority=urgent&kind=leak&district=south",
    "/meters?search=幸福路&medium=gas",
    "/meters?search=0&district=north",
    "/orders?view=list&due=overdue&type=meter_test&assignee=zhao",
    "/orders?due=calls",
    f"/billing/{PERIOD}?view=all&cause=large_use&district=south&search=UP",
    "/billing/deltas?state=all",
    "/field/quarantine?view=all&reason=future&gateway=gw-2&meter=G-0001",
    "/admin/users?search=l",
    "/admin/keys?view=all",
    "/admin/audit?action=user&object_kind=user&actor=console:test",
)
NASTY = (
    "/alarms?district={}", "/meters?search={}", "/meters?district={}", "/meters/{}", "/meters/{}/why",
    "/orders?district={}", "/orders?view=list&assignee={}", "/field/{}", "/field/quarantine?reason={}",
    "/field/quarantine?gateway={}", "/field/quarantine?meter={}", f"/billing/{PERIOD}?district={{}}",
    f"/billing/{PERIOD}?search={{}}", f"/billing/{PERIOD}/points/{{}}", "/billing/deltas?period={}",
    "/admin/users?search={}", "/admin/audit?actor={}", "/admin/audit?object_id={}", "/admin/thresholds?meter={}",
)  # fmt: skip
OWN = ("/admin/storage",)
"""What PostgreSQL tells of itself: its size on a disk that may be another machine's."""


def pages(world: World) -> dict[str, str]:
    """Every page without what is drawn by lot: names of keys."""

    async def scenario() -> dict[str, str]:
        found = {}
        async with client(world.app) as http:
            for path in (
                *PAGES,
                *NARROWED,
                *(path.format(nasty) for path in NASTY for nasty in ("a%00b", "%25_%27")),
            ):
                answer = await http.get(path, headers={"accept": "text/html"})
                assert answer.status_code in (200, 403, 404, 422), (path, answer.text)
                found[path] = f"{answer.status_code} {re.sub(r'mg_[a-z0-9]{8}', 'mg_', answer.text)}"
        return found

    return asyncio.run(scenario())


def test_every_page_says_the_same_over_both_registries(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "lite").mkdir()
    (tmp_path / "post").mkdir()
    lite, post = make_talkative(tmp_path / "lite"), make_talkative(tmp_path / "post", Database(postgres_url))
    try:
        expected, found = pages(lite), pages(post)
    finally:
        lite.close()
        post.close()
    for path in expected:
        if path not in OWN:
            assert found[path] == expected[path], path
    assert all(found[path].startswith("200") for path in OWN)
    assert sum(page.startswith("200") for page in expected.values()) > 60
