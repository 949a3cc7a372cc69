"""completion: the scripts for shells, which ask `kirsch _complete`, and what it answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete

from kirsch.cli.verb import Options, Root, argument, verb, where

BASH = r"""# kirsch's completion for bash: source <(kirsch completion bash)
_kirsch() {
    local line answer breaks kept program word
    # COMP_WORDS will not do: bash parts words at @ and : too.
    read -ra line <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && line+=("")
    word=${line[-1]}
    # As it was typed, for it need not be on PATH: .venv/bin/kirsch.
    program=${line[0]/#\~\//$HOME/}
    [[ $(type -t -- "$program") == file ]] || program=kirsch  # an alias
    mapfile -t answer < <("$program" _complete "${line[@]:1}" 2>/dev/null)
    COMPREPLY=("${answer[@]:1}")
    COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
    # What stands before the last break is there already.
    breaks=${COMP_WORDBREAKS//[^@:=]/}
    if [[ -n $breaks ]]; then
        kept=${word%"${word##*["$breaks"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    fi
    case ${answer[0]} in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
    esac
}
complete -F _kirsch kirsch
"""

ZSH = r"""#compdef kirsch
# kirsch's completion for zsh: source <(kirsch completion zsh), or a file _kirsch in $fpath
_kirsch() {
    local -a answer values
    answer=("${(@f)$(kirsch _complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    # _describe wants VALUE:HELP.
    values=("${(@)${(@)answer[2,-1]}//:/\\:}")
    values=("${(@)values/$'\t'/:}")
    [[ -n $values ]] && _describe kirsch values
    case $answer[1] in
        files) _files ;;
        folders) _files -/ ;;
    esac
}
if [[ $funcstack[1] == _kirsch ]]; then _kirsch "$@"; else compdef _kirsch kirsch; fi
"""

FISH = r"""# kirsch's completion for fish: kirsch completion fish | source
function __kirsch_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    test -n "$word"; or set word ''
    set -l answer (kirsch _complete $words[2..] $word 2>/dev/null)
    printf '%s\n' $answer[2..]
    switch $answer[1]
        case files
            __fish_complete_path $word
        case folders
            __fish_complete_directories $word
    end
end
complete -c kirsch -f -a '(__kirsch_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


# Nobody waits longer for a name.
TIMEOUT = 2.0
# What click calls paths, and what the scripts do.
PATHS = {"file": "files", "dir": "folders"}

Where = Mapping[str, str | None]


@verb(
    "completion",
    argument("shell", "SHELL", "bash, zsh or fish", type=click.Choice([*SCRIPTS])),
    text="It completes verbs, options and the names of units.",
    example="source <(kirsch completion bash)",
)
def completion(options: Options) -> int:
    """Print the script for one shell."""
    print(SCRIPTS[options.shell], end="")
    return 0


def answer(words: Sequence[str], names: "Names | None" = None) -> str:
    """Return what `kirsch _complete WORD…` prints: what can stand in place of the last of `words`.

    The first line says whether `files`, `folders` or `none` can. A line for each word follows:
    WORD, tab, help.
    """
    *before, last = words or [""]
    shell = ShellComplete(Root(), {"obj": names or Names()}, "kirsch", "_KIRSCH_COMPLETE")
    found = shell.get_completions(before, last)
    paths = {PATHS[item.type] for item in found if item.type in PATHS}
    lines = [
        f"{item.value}\t{item.help}" if item.help else str(item.value)
        for item in found
        if item.type == "plain"
    ]
    return "".join(f"{line}\n" for line in [max(paths, default="none"), *lines])


@dataclass(frozen=True, slots=True)
class Names:
    """Names of what a kirschd has; empty where it does not answer at once."""

    units: Callable[[Where], Iterable[str]] = lambda where: _units(where)
    machines: Callable[[Where], Iterable[str]] = lambda where: _machines(where)


def _units(where: Where) -> list[str]:
    from kirsch.cluster.api.client import UNITS

    return sorted({line["name"] for line in _ask(where, UNITS, "units")})


def _machines(where: Where) -> list[str]:
    found = _ask(where, "/kirsch/v1/machines", "machines")
    return sorted(machine["metadata"].get("hostname") or machine["id"] for machine in found)


def _secrets(where: Where) -> list[str]:
    return [secret["name"] for secret in _ask(where, "/kirsch/v1/secrets", "secrets")]


def _ask(where: Where, path: str, what: str) -> list[dict[str, Any]]:
    from kirsch.cluster.api.client import ClientError

    try:
        found: list[dict[str, Any]] = Options(**where).client(TIMEOUT).get(path)[what]
    except ClientError:
        return []
    return found


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def units(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest units, templates too."""
    return _starting(ctx.obj.units(where(ctx)), incomplete)


def instances(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest units that can run: no templates."""
    return [item for item in units(ctx, param, incomplete) if "@." not in item.value]


def machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest machines by their host names, or else their ids."""
    return _starting(ctx.obj.machines(where(ctx)), incomplete)


def secrets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest secrets that a kirschd has, or that units wait for."""
    return _starting(_secrets(where(ctx)), incomplete)


def clusters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest clusters of this computer, and contexts of the kubeconfig for a word that begins with
    kubernetes:."""
    from kirsch.cluster.api.client import ClientError
    from kirsch.cluster.provision.endpoint import KUBERNETES
    from kirsch.cluster.provision.record import ClusterRecord

    if not incomplete.startswith(KUBERNETES):
        return _starting(ClusterRecord.names(), incomplete)
    try:
        from kirsch.cluster.application.kubernetes import contexts
    except ImportError:
        return []
    try:
        return _starting([f"{KUBERNETES}{context['name']}" for context in contexts()], incomplete)
    except ClientError:
        return []


def images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest images of this computer; none if podman cannot say."""
    from kirsch.cluster.image.store import images as here
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.record import ProvisionError

    try:
        return _starting([f"{image.name}:{image.tag}" for image in here(Runner())], incomplete)
    except ProvisionError:
        return []


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell suggest files."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell suggest folders."""
    return [CompletionItem(incomplete, type="dir")]
