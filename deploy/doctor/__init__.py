"""What is wrong with an AWS account before a first run, in plain words, each with the way to mend it."""
