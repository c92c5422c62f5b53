"""Checks whether a set-up would serve, by asking each room's checkup in order. Changes nothing."""

from pathlib import Path

from pspsearch.app.checkup import examine_account, examine_limits, examine_traces
from pspsearch.callers.checkup import examine_callers
from pspsearch.catalog.checkup import examine_data
from pspsearch.catalog.folder import is_in_use
from pspsearch.config import Settings
from pspsearch.embedded import checkup as embedded_checkup
from pspsearch.findings import Finding, Grade
from pspsearch.index.checkup import examine_faiss
from pspsearch.rpc.checkup import examine_certificate, examine_ports
from pspsearch.triton import checkup as triton_checkup


async def examine(settings: Settings) -> list[Finding]:
    """Examines everything that a server with these settings needs."""
    data = Path(settings.storage.data)
    running = is_in_use(data)
    is_embedded = settings.triton.runtime == "embedded"
    server = [Finding("server", Grade.GOOD, f"one runs on {data}")] if running else []
    return [
        *server,
        *examine_account(),
        *examine_data(data, running=running),
        *examine_certificate(settings.security),
        *examine_callers(settings.security),
        *examine_traces(settings.log),
        await (embedded_checkup if is_embedded else triton_checkup).examine_model(settings.triton),
        examine_faiss(settings.index),
        *examine_ports(settings.serving, running=running),
        *examine_limits(settings),
        *([] if is_embedded else triton_checkup.examine_shared_memory(settings.triton)),
    ]
