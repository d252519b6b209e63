"""Requests to Google Cloud Storage: the client, its errors, and when it tries again.

Requests that fail for a reason that may pass (a lost connection, status 408, 429 or
5xx) are repeated after exponentially growing random waits, for `RETRY_SECONDS` at most.
"""

import contextlib
import errno
import importlib.util
import os
import threading
from collections.abc import Iterator
from typing import Any

RETRY_SECONDS = 120.0
SILENCE_SECONDS = 60.0  # a request without an answer for this long has failed

_MODULES = ("gcsfs", "google.cloud.storage")
_clients = threading.local()  # a client's connections serve one thread at a time


class BucketError(OSError):
    """A bucket cannot be used; the message says why and what to do."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(errno.EIO, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextlib.contextmanager
def translated_errors(path: object) -> Iterator[None]:
    """Turns the client's errors into those of the operating system."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage import exceptions as storage
    from requests import exceptions as http

    try:
        yield
    except api.NotFound as error:
        raise FileNotFoundError(
            errno.ENOENT, os.strerror(errno.ENOENT), str(path)
        ) from error
    except api.PreconditionFailed as error:
        raise FileExistsError(
            errno.EEXIST, os.strerror(errno.EEXIST), str(path)
        ) from error
    except (api.Forbidden, api.Unauthorized, auth.GoogleAuthError) as error:
        raise BucketError(
            path,
            f"access was refused ({_reason(error)}); give this machine's service "
            "account the role Storage Object User and Storage Legacy Bucket "
            "Reader, or run `gcloud auth application-default login`",
        ) from error
    except (
        api.RetryError,
        api.ServerError,
        api.TooManyRequests,
        http.RequestException,
    ) as error:
        raise BucketError(
            path,
            f"the bucket did not answer in {RETRY_SECONDS:.0f} s "
            f"({_reason(error)}); run the same command again once it does",
        ) from error
    except (api.GoogleAPIError, storage.DataCorruption) as error:
        raise BucketError(
            path, f"the bucket refused the request ({_reason(error)})"
        ) from error


def configure(text: str) -> None:
    """Prepares the libraries that read buckets for Orbax and TFDS.

    Both use etils' epath. It takes TensorFlow's file system unless told otherwise,
    which keeps what it has read for seconds, so one host might not see another's files.

    Raises:
      ValueError: they are not installed.
    """
    try:
        missing = not all(map(importlib.util.find_spec, _MODULES))
    except ModuleNotFoundError:  # no package `google` at all
        missing = True
    if missing:
        raise ValueError(f"{text} needs more packages: pip install 'srgan-jax[gcs]'")
    os.environ.setdefault("EPATH_USE_TF", "false")
    # gcsfs would ask by gRPC what kind of bucket it is, and wait for minutes where a
    # firewall or an emulator does not answer.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # TensorStore and gcsfs would wait forever on a connection that has gone silent.
    os.environ.setdefault(
        "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", f"{SILENCE_SECONDS:.0f}"
    )
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
    import aiohttp
    import fsspec

    options = fsspec.config.conf.setdefault("gcs", {})
    options.setdefault(
        "requests_timeout",
        aiohttp.ClientTimeout(sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS),
    )
    # A cached listing would hide the files that other hosts have written since.
    options.setdefault("use_listings_cache", False)


def client(path: object) -> Any:
    """Returns this thread's client."""
    if not hasattr(_clients, "client"):
        from google.cloud import storage

        with translated_errors(path):
            try:
                _clients.client = storage.Client()
            except OSError as error:
                raise BucketError(
                    path,
                    "the Google Cloud project is unknown; set GOOGLE_CLOUD_PROJECT in "
                    "the environment",
                ) from error
    return _clients.client


def retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def _reason(error: Exception) -> str:
    """Returns the status of the answer, or the first line of what the client says."""
    cause = getattr(error, "cause", None) or error
    response = getattr(cause, "response", None)
    status = getattr(cause, "code", None) or getattr(response, "status_code", None)
    if status is not None and (status in (408, 429) or status >= 500):
        return f"status {int(status)}"
    text = getattr(cause, "message", None) or str(cause) or type(cause).__name__
    line: str = text.splitlines()[0]
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-100:]}"
