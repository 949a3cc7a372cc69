"""Keywords, a class for each noun; kirsch.robot.library puts them together."""
