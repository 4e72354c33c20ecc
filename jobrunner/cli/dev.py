"""`jobrunner dev`: a broker and a worker that runs anything, for trying things out."""

from typing import TYPE_CHECKING, Any

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.kinds import QUEUE, Number
from jobrunner.cli.shared import Shared
from jobrunner.errors import BrokerRefused, DevRemote

if TYPE_CHECKING:
    from jobrunner.worker.settings import WorkerSettings


@command("dev")
@option("-A", "--app", multiple=True, metavar="MODULE", show_default="tasks if it is here", help="Its @job functions.")
@option("-p", "--procs", type=Number(1, 1024), metavar="N", show_default="usable CPUs", help="Worker processes.")
@option(
    "-q",
    "--queue",
    type=QUEUE,
    multiple=True,
    metavar="NAME",
    show_default="task_queue",
    help="Looked at in this order.",
)
@option("--port", type=Number(1, 65535), metavar="N", help="The broker's port; any free one if not given.")
@option("--once", is_flag=True, help="Stop the broker at the end, if it was started here.")
@pass_shared
def dev(shared: Shared, /, port: int | None, *, once: bool, **options: Any) -> int:
    """Try it now: a private broker, and a worker that runs any function or command and reloads on changes.

    If a broker on this machine is configured, that one is taken.
    """
    import asyncio

    from jobrunner.cli.banner import dev_banner
    from jobrunner.cli.broker_talk import start_showing_progress, warn_of_ignored
    from jobrunner.cli.logs import configure
    from jobrunner.local import lifecycle

    is_private = not _names_a_broker(shared)
    is_ours = is_private and lifecycle.running() is None
    if is_private:
        wanted = lifecycle.StartOptions(port=port)
        warn_of_ignored(shared, start_showing_progress(shared, wanted), wanted)
        del shared.settings  # read again: the private broker runs now
    try:
        settings = _settings(shared, options)
        stays = is_private and not (once and is_ours)
        note = ", keeps running (jobrunner broker stop)" if stays else ""
        configure("auto", "debug" if shared.verbose > 1 else "info", shared.color, dev_banner(note, settings.apps))
        from jobrunner.worker.run import run_worker

        return asyncio.run(run_worker(settings))
    except BrokerRefused as exc:
        origin = shared.settings.url.origin
        raise BrokerRefused(hint=f"leave {origin} out: then dev starts a broker of its own", **exc.fields) from exc
    finally:
        if once and is_ours:
            lifecycle.stop()


def _names_a_broker(shared: Shared) -> bool:
    """Whether a broker is configured, other than the private one. Raises: DevRemote for one on another machine."""
    url = shared.settings.url
    if url.is_local_broker or url.origin == "default":
        return False
    if not url.is_loopback:
        raise DevRemote(host=url.host)
    return True


def _settings(shared: Shared, options: dict[str, Any]) -> "WorkerSettings":
    import msgspec

    from jobrunner.cli.worker_settings import settings_of

    names = ("name", "max_jobs", "max_memory", "raw_handler", "raw_handler_command")
    fixed: dict[str, Any] = dict.fromkeys(names) | dict.fromkeys(("insecure", "share_broker", "burst"), False)
    # a broker and a worker of one's own: what was interrupted goes on soon after the next start
    fixed |= {"lost_after": 3.0}
    fixed |= {"grace": 25.0, "allow_commands": True, "allow_command": (), "allow_import": (), "reload": True}
    settings = settings_of(shared, options | fixed)
    return msgspec.structs.replace(settings, allow_import=("*",))
