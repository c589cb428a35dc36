"""Packages that not every installation has."""

from importlib.metadata import PackageNotFoundError, version

from segbench.errors import InputError


def there(name: str) -> bool:
    """Whether a package is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def need(package: str) -> None:
    """Raise InputError unless a package of the extra `delivery` is installed."""
    if not there(package):
        raise InputError(f"{package} is not installed; run: pip install -e '.[delivery]'")
