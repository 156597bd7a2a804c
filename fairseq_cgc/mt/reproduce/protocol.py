"""How the systems of a table are trained and evaluated: ``fairseq_cgc/config/PROTOCOL.yaml``.

The files are configurations of ``fairseq-hydra-train``. Some baselines are models that only
``fairseq-train`` builds, so the same values are turned into its options here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from fairseq_cgc.mt.fairseq_commands import PACKAGE_DIR

#: Options that differ from run to run.
_OF_A_RUN = {"data", "seed", "save_dir"}


@dataclass(frozen=True)
class Protocol:
    """The protocol of one data set; made with :func:`load_protocol`."""

    name: str
    architecture: str
    """That of LightConv + CGC; the other systems have its sizes."""
    source_lang: str
    target_lang: str
    train_options: list[str]
    """For ``fairseq-train``, the same for all systems."""
    last_epochs: int
    """How many epoch checkpoints to average."""
    beam: int
    lenpen: float


def read_config(name: str) -> dict[str, Any]:
    """The values in ``fairseq_cgc/config/NAME.yaml``."""
    return yaml.safe_load((PACKAGE_DIR / "config" / f"{name}.yaml").read_text(encoding="utf-8"))


def load_protocol(name: str) -> Protocol:
    """Read ``fairseq_cgc/config/NAME.yaml``."""
    values = read_config(name)
    (architecture,) = (item["model"] for item in values.pop("defaults") if "model" in item)
    search = values.pop("generation")
    options = [
        word
        for section, entries in values.items()
        for key, value in entries.items()
        if key not in _OF_A_RUN
        for word in as_option(section if key == "_name" else key, value)
    ]
    return Protocol(
        name=name,
        architecture=architecture,
        source_lang=values["task"]["source_lang"],
        target_lang=values["task"]["target_lang"],
        train_options=options,
        last_epochs=values["checkpoint"]["keep_last_epochs"],
        beam=search["beam"],
        lenpen=search["lenpen"],
    )


def as_option(key: str, value: Any) -> list[str]:
    """One value of a configuration as words of ``fairseq-train``'s command line."""
    option = "--" + key.replace("_", "-")
    if value is True:
        return [option]
    return [option, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
