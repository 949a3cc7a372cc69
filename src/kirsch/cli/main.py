"""The `kirsch` command. Each verb's module is imported when it is called, so that all start fast."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit status."""
    try:
        # Nothing is imported before this: Ctrl-C is no traceback then either.
        from kirsch.cli.errors import last, reported, with_streams

        if argv is not None:
            return reported(lambda: _run(argv))
        try:
            with_streams()
            return reported(lambda: _run(sys.argv[1:]))
        finally:
            last()
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["balancer"]:
        # A program of its own, with options of its own: it is here for people to find.
        from kirsch.cluster.balancer.command import main as balancer

        return balancer(arguments[1:])
    if arguments[:1] == ["_complete"]:
        from kirsch.cli.complete import main as complete

        return complete(arguments[1:])
    import argparse
    from collections.abc import Callable
    from importlib import import_module

    from kirsch.cli.manual import USAGE
    from kirsch.cli.verbs import build, half, joined, listed, odd, refuse, unknown, verbs_of

    parser = build()
    verbs = verbs_of(parser)
    given = joined(arguments, verbs)
    if word := half(given, verbs):
        rest = given[given.index(word) + 1 :]
        if {"-h", "--help"} & set(rest):
            print(listed(word, verbs), end="")
            return 0
        if not rest:
            print(f"kirsch: {word} what? There are\n{listed(word, verbs)}", end="", file=sys.stderr)
            return USAGE
        seconds = ", ".join(verb.partition(" ")[2] for verb in verbs if verb.startswith(f"{word} "))
        parser.error(f"{word} what? There are {seconds}")
    if words := unknown(given, verbs):
        parser.error(words)
    if word := odd(given, parser):
        refuse([word], parser)
    options, more = parser.parse_known_args(given)
    if options.run is None:
        if given:
            parser.error(f"what is to be done? A verb is missing in {' '.join(given)}")
        parser.print_help()
        return USAGE
    if more:
        refuse(more, next(verbs[word][0] for word in given if word in verbs))
    module, _, function = options.run.rpartition(":")
    verb: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    return verb(options)


if __name__ == "__main__":
    sys.exit(main())
