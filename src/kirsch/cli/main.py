"""The `kirsch` command. Each verb's module is imported when it is called, so that all start fast."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        # Nothing is imported before this: Ctrl-C is no traceback then either.
        from kirsch.cli.errors import last, reported, with_streams

        if argv is not None:
            return reported(lambda: run(argv))
        try:
            with_streams()
            return reported(lambda: run(sys.argv[1:]))
        finally:
            last()
    except KeyboardInterrupt:
        return 130


def run(arguments: list[str]) -> int:
    """Carry out a command line. Raises what a verb raises."""
    if arguments in ([], ["-h"], ["--help"]):
        # Without click, which takes longer than everything else.
        from kirsch.cli.verbs import overview

        print(overview(), end="")
        return 0 if arguments else 2
    if arguments == ["--version"]:
        from importlib import metadata

        print(f"kirsch {metadata.version('kirsch')}")
        return 0
    if arguments[:1] == ["_complete"]:
        from kirsch.cli.completion import answer

        print(answer(arguments[1:]), end="")
        return 0
    from kirsch.cli.verb import carry_out

    return carry_out(arguments)


if __name__ == "__main__":
    sys.exit(main())
