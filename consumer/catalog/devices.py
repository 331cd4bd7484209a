"""The `gpus` and `devices` of a template. Users choose none: who gets a device is the operator's decision."""

import re
from typing import Any, Literal

from consumer.catalog import fields
from consumer.catalog.fields import problem
from consumer.catalog.wording import quoted

Gpus = int | Literal["all"]

MAX_GPUS = 128
MAX_DEVICES = 64

# A qualified device name of the Container Device Interface: vendor.com/class=name.
_CDI = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_.-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*")


def gpu_count(value: Any) -> Gpus:
    """`all`, or how many."""
    text = fields.text(value).strip().lower()
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_GPUS):
        raise problem(f"{quoted(value)} is neither `all` nor a number of GPUs from 1 to {MAX_GPUS}")
    return int(text)


def device_names(value: Any) -> tuple[str, ...]:
    """Names of devices as the Container Device Interface has them."""
    names = fields.text_list(value)
    for index, name in enumerate(names):
        if len(name) > 200 or not _CDI.fullmatch(name):
            raise problem(f'{quoted(name)} is not the name of a device: write it as "nvidia.com/gpu=all"', index)
        if name in names[:index]:
            raise problem(f"{quoted(name)} is listed twice: list it once", index)
    if len(names) > MAX_DEVICES:
        raise problem(f"lists {len(names)} devices: at most {MAX_DEVICES}")
    return names
