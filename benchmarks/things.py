"""An application for benchmarks/declared.py: one subject with the columns of resources."""

import os
from pathlib import Path

from isola.subjects import JSON, Application, BigInt, Subject, caller, column, reference
from isola.subjects.users import User

HISTORY = "THINGS_HISTORY"


class Thing(Subject, name="thing", prefix="thi", counted=True):
    owner: User = reference(default=caller)
    name: str = column(max_length=200, min_length=1, index=True)
    kind: str | None = column(max_length=200, index=True)
    data: JSON = column(default=dict)
    size_bytes: BigInt = column(default=0, minimum=0, index=True)

    shared = ("name", "kind", "data", "size_bytes", "created_at", "updated_at")


application = Application(name="things", subjects=(Thing,), migrations=Path(os.environ.get(HISTORY, ".")))
