"""What docs/reference/runtimes.md says that engines enforce is what they do."""

import pytest

from tests.provisioners.docker.harness import EngineUnderTest, on_each
from tools.engines import KINDS, OF_THE_MACHINE, PAGE, Seen, look, table, with_table, written

pytestmark = pytest.mark.docker


@on_each
async def test_the_page_says_what_the_engine_does(engine: EngineUnderTest, request: pytest.FixtureRequest) -> None:
    kind = KINDS[["docker", "podman", "rootless"].index(request.node.callspec.params["engine"])]
    page = written(PAGE.read_text(encoding="utf-8"))[kind]

    seen = await look(engine)

    known = page.rows
    if (seen.control_groups, seen.version.split(".")[0]) != (page.control_groups, page.version.split(".")[0]):
        known = {row: said for row, said in page.rows.items() if row not in OF_THE_MACHINE}
    assert {row: seen.rows.get(row) for row in known} == known


def test_the_table_is_read_as_it_was_written() -> None:
    seen = {kind: Seen("4.3.1", "2", {"CPU": "enforced", "init": "works"}) for kind in KINDS}
    text = "before\n<!-- engines: made -->\nold\n<!-- /engines -->\nafter\n"

    assert written(with_table(text, seen)) == seen
    assert with_table(text, seen).startswith("before\n<!-- engines: made -->\n| | Docker Engine<br>4.3.1, cgroups v2 |")
    assert table(seen).count("\n") == 3
