"""The engine: the elected leader that decides where units run. All but `engine` itself is pure."""
