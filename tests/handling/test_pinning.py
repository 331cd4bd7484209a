"""What ran is told by its digest, and stays the same content for as long as the reservation runs."""

from consumer.handling.errors import Permanent
from tests.handling.stage import NAME, Stage, created, end, start, updated

IMAGE = "nginx:1.27"
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


async def test_the_result_tells_what_was_asked_for_and_what_it_meant() -> None:
    stage = Stage()
    stage.docker.digests[IMAGE] = OLD
    (result,) = (await stage.deliver(start())).results
    assert (result.image, result.image_digest) == (IMAGE, OLD)


async def test_what_has_no_digest_is_told_without() -> None:
    told = await Stage().deliver(start())
    assert told.results[0].image_digest is None


async def test_what_is_made_again_is_the_same_content_though_its_tag_has_moved() -> None:
    stage = Stage()
    stage.docker.digests[IMAGE] = OLD
    await stage.deliver(start())
    stage.docker.digests[IMAGE] = NEW
    assert stage.docker.vacate(NAME)
    (result,) = (await stage.deliver(start())).results
    assert (result.image, result.image_digest) == (IMAGE, OLD)


async def test_what_still_runs_is_told_as_it_is() -> None:
    stage = Stage()
    stage.docker.digests[IMAGE] = OLD
    await stage.deliver(start())
    stage.docker.digests[IMAGE] = NEW
    (result,) = (await stage.deliver(start())).results
    assert result.image_digest == OLD


async def test_what_starts_anew_is_what_its_tag_means_then() -> None:
    stage = Stage()
    stage.docker.digests[IMAGE] = OLD
    await stage.deliver_all(created(), start(), updated(1, start="2026-03-02T11:00:00Z"))
    stage.docker.digests[IMAGE] = NEW
    await stage.sleep_until(10, 55)
    (result,) = (await stage.deliver(start())).results
    assert result.image_digest == NEW


async def test_another_image_is_not_pinned_to_the_one_before() -> None:
    stage = Stage()
    stage.docker.digests |= {IMAGE: OLD, "docker.io/library/httpd:2.4": NEW}
    await stage.deliver_all(created(), start(), updated(1, customParameters='{"image": "httpd:2.4"}'))
    assert stage.docker.vacate(NAME)
    (result,) = (await stage.deliver(start())).results
    assert (result.image, result.image_digest) == ("docker.io/library/httpd:2.4", NEW)


async def test_a_failure_and_what_follows_tell_of_no_content() -> None:
    stage = Stage()
    stage.docker.digests[IMAGE] = OLD
    stage.docker.fail("ensure", Permanent("exited_at_start", "no"))
    failed, ended = await stage.deliver_all(start(), end())
    assert failed.results[0].image_digest is None
    assert ended.results[0].image_digest is None
