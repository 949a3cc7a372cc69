"""completion: a shell's script. It is short, for it asks `kirsch _complete` what can follow."""

import argparse

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


def completion(options: argparse.Namespace) -> int:
    """Print the script for one shell."""
    print(SCRIPTS[options.shell], end="")
    return 0
