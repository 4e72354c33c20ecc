"""`jobrunner completion`: the script that teaches a shell our commands and options; it never asks the network."""

import os
from pathlib import Path

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.shared import Shared
from jobrunner.errors import BadValue

_PLACES = {
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/jobrunner"),
    "zsh": ("ZDOTDIR", "", ".zfunc/_jobrunner"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/jobrunner.fish"),
}
_NEXT = {
    "bash": "It works in the next shell, if bash-completion is installed.",
    "zsh": "In ~/.zshrc, once:  fpath+=~/.zfunc; autoload -Uz compinit && compinit",
    "fish": "It works in the next shell.",
}


EPILOG = """
\b
  bash   source <(jobrunner completion bash)
  zsh    source <(jobrunner completion zsh)
  fish   jobrunner completion fish | source"""


@command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@option("--install", is_flag=True, help="Write it to the shell's own folder for such scripts.")
@pass_shared
def completion(shared: Shared, shell: str, *, install: bool) -> None:
    """Print the completion script of your shell: commands, options, and ids and queues that were seen last."""
    script = _script(shell)
    if not install:
        out.emit(script)
        return
    variable, below_home, rest = _PLACES[shell]
    path = Path(os.environ.get(variable) or Path.home() / below_home) / rest
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script + "\n", encoding="utf-8")
    except OSError as exc:
        raise BadValue(problem=f"Cannot write '{path}': {exc.strerror}.", hint=f"jobrunner completion {shell}") from exc
    out.emit(str(path))
    shared.talk(_NEXT[shell])


def _script(shell: str) -> str:
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise BadValue(problem=f"There is no completion for '{shell}'.", hint="bash, zsh, fish")
    found = kind(click.Command("jobrunner"), {}, "jobrunner", "_JOBRUNNER_COMPLETE")
    # the base class's way: that of bash starts a bash to ask for its version
    return ShellComplete.source(found).strip()
