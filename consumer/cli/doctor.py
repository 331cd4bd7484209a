"""`moorage doctor`: the usual troubles, found before users find them, each with its remedy."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from consumer.catalog.errors import CatalogError, Refused
from consumer.catalog.parameters import Parameter
from consumer.catalog.templates import Catalog, Template
from consumer.cli.console import Exit, out, print_json, run_async
from consumer.cli.kafka import begin
from consumer.cli.text import cell, line
from consumer.handling.ports import Finding, Level
from consumer.parts import ConfigurationError, catalog_of, connection_of, provisioners_of, topics_of
from consumer.settings import Settings
from consumer.transport.connection import TransportError
from consumer.transport.topics import TopicsMissing, ensure_topics

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def doctor(
    kafka: Annotated[bool, typer.Option("--kafka/--no-kafka", help="Look at Kafka and the topics.")] = True,
    image: Annotated[str | None, typer.Option(help="Say of each template whether its users may ask for this.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each finding.")] = False,
) -> None:
    """Examine settings, templates, Kafka and runtimes, and say what is wrong and what to do about it.

    Changes nothing. Exit code 1 when there is an error; warnings are for you to judge.
    """
    findings = run_async(_examine(begin(), kafka=kafka, image=image))
    for finding in findings:
        if as_json:
            print_json(asdict(finding))
        else:
            _show(finding)
    if any(finding.level is Level.ERROR for finding in findings):
        raise typer.Exit(Exit.FAILED)


async def _examine(settings: Settings, *, kafka: bool, image: str | None) -> list[Finding]:
    findings: list[Finding] = []
    if kafka:
        findings.append(await _kafka(settings))
    try:
        catalog = catalog_of(settings)
    except (CatalogError, ConfigurationError) as error:
        return findings + list(_complaints(error))
    source = settings.templates.name if settings.templates is not None else "made of the default settings"
    findings.append(Finding(Level.OK, "templates", f"{len(catalog.templates)}, {source}."))
    if image is not None:
        findings += [_allowed(catalog, template, image) for template in catalog.templates]
    for runtime in sorted(catalog.runtimes):
        findings += [each async for each in _runtime(settings, catalog, runtime)]
    return findings


def _allowed(catalog: Catalog, template: Template, image: str) -> Finding:
    subject = f"template {template.name}"
    if Parameter.IMAGE not in template.offered:
        remedy = "List `image` in the template's `overrides`."
        return Finding(Level.WARNING, subject, "Its users may not choose an image.", remedy)
    try:
        choice = catalog.image_choice(template, image)
    except Refused as refusal:
        return Finding(Level.WARNING, subject, refusal.message, "Extend `images.allow`.")
    return Finding(Level.OK, subject, choice.note or f"Its users may ask for {choice.image}.")


async def _kafka(settings: Settings) -> Finding:
    topics = topics_of(settings)
    try:
        await ensure_topics(connection_of(settings), topics, create=False, partitions=settings.partitions)
    except TopicsMissing as error:
        if settings.create_topics:
            return Finding(
                Level.WARNING, "kafka", str(error).partition(".")[0] + ".", "Nothing: the start creates them."
            )
        return _said_with_remedy("kafka", str(error))
    except TransportError as error:
        return _said_with_remedy("kafka", str(error))
    return Finding(Level.OK, "kafka", f"{settings.bootstrap_servers} answers, and all topics fit together.")


async def _runtime(settings: Settings, catalog: Catalog, runtime: str) -> AsyncIterator[Finding]:
    try:
        provisioner = provisioners_of(settings, frozenset({runtime}))[runtime]
    except ConfigurationError as error:
        yield _said_with_remedy(runtime, str(error))
        return
    try:
        for found in await provisioner.diagnose(catalog.needs(runtime)):
            yield Finding(found.level, f"{runtime}, {found.subject}", found.message, found.remedy)
    finally:
        await provisioner.close()


def _complaints(error: CatalogError | ConfigurationError) -> Iterator[Finding]:
    problems: Sequence[str] = error.problems if isinstance(error, CatalogError) else [str(error)]
    for problem in problems:
        yield Finding(Level.ERROR, "templates", problem, "Correct the file; docs/how-to/templates.md has every key.")


def _said_with_remedy(subject: str, text: str) -> Finding:
    """Errors of ours are sentences of which the last ones say what to do."""
    what, _, remedy = text.partition(". ")
    return Finding(Level.ERROR, subject, f"{what.rstrip('.')}.", remedy or None)


def _show(finding: Finding) -> None:
    if not out.is_terminal:
        line(finding.level, finding.subject, finding.message, *([finding.remedy] if finding.remedy else []))
        return
    out.print(
        cell(f"{finding.level:<8}", _STYLES[finding.level]),
        cell(f"{finding.subject}:", "bold"),
        cell(finding.message),
        soft_wrap=True,
    )
    if finding.remedy:
        out.print(cell(f"{'':<8} → {finding.remedy}", "dim"), soft_wrap=True)
