"""The arguments that several benches take."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path


def parser_of(description: str | None) -> ArgumentParser:
    """Returns a parser without arguments, whose help shows the description as it is."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def parser_with_photos(description: str | None) -> ArgumentParser:
    """Returns a parser with the option `--photos`, for bench.photos.different_photos."""
    parser = parser_of(description)
    parser.add_argument(
        "--photos", type=Path, help="a folder of JPEG files (default: crops of packaged ones)"
    )
    return parser
