"""``pledge``, also while it is still being imported."""


def main() -> None:
    """Run the command line; an interrupt ends it without a traceback from the first moment."""
    try:
        from pledge import cli

        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
