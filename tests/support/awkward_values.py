"""Values of settings that a shell or systemd might take apart."""

AWKWARD = [
    "plain",
    "with space",
    "it's",
    'say "hi"',
    "$HOME `id` $(id)",
    "a\\b",
    "*",
    "",
    "two\nlines",
    "犬 é",
    "#x",
    "a;b&c|d",
]
