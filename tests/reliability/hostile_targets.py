"""What hostile input is given to: every case must end in a result or in one clear error."""

from __future__ import annotations

from hostile_files import ARCHIVES, CAMPAIGN, DATA_FOLDER, FILES, PREPARATION
from hostile_options import COMMAND_OPTIONS, MODEL_OPTIONS
from hostile_text import RESUMPTION, SUBWORDS, TOKENS, TRANSLATION

TARGETS = {
    "tokens": TOKENS,
    "subwords": SUBWORDS,
    "files": FILES,
    "archives": ARCHIVES,
    "preparation": PREPARATION,
    "campaign": CAMPAIGN,
    "options of commands": COMMAND_OPTIONS,
    "options of the model": MODEL_OPTIONS,
    "translation": TRANSLATION,
    "resumption": RESUMPTION,
    "data folder": DATA_FOLDER,
}
