"""Which content an environment runs: had from the engine or a registry by the template's policy, pinned by its digest.

A tag is a name that moves. What it means is looked up once, when an environment is made; its container is made from
the digest, so that what the result says ran is what ran.
"""

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.images import split_reference
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Report
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.docker.images import Content, content_of
from consumer.provisioners.docker.pulls import ImagePulls
from consumer.provisioners.text import shortened


class Contents:
    """Gets the contents of images, and says what they are."""

    def __init__(self, engine: Engine, pulls: ImagePulls) -> None:
        self._engine = engine
        self._pulls = pulls

    async def have(self, spec: EnvironmentSpec, report: Report) -> Content:
        """The content of `spec`'s image, which the engine then has.

        Raises `Permanent("image_not_present")` where nothing may be pulled.
        """
        wanted = _wanted(spec)
        shown = None
        # What is asked for by digest is never another content: pulling it again brings nothing.
        if spec.pull != "always" or "@" in wanted:
            shown = await self._engine.image(wanted)
        if shown is None:
            if spec.pull == "never":
                raise Permanent("image_not_present", f"The image {shortened(wanted, 120)} is not at hand here.")
            await self._pulls.pull(wanted, report)
            shown = await self._engine.image(wanted)
        if shown is None:
            raise Transient("image_pull_failed", "The image was pulled but is not there.")
        return content_of(wanted, shown)


def _wanted(spec: EnvironmentSpec) -> str:
    """The reference to look for. With a digest, a tag decides nothing."""
    name, _, digest = split_reference(spec.image)
    digest = spec.image_digest or digest
    return spec.image if digest is None else f"{name}@{digest}"
