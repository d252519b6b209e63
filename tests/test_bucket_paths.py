"""Files in a bucket, on a real storage server on loopback behind a proxy that fails."""

import contextlib
import subprocess
import sys
import time
from pathlib import PurePosixPath

import pytest
from bucket_server import CUT, FAULTS, LOST

from srgan_jax import bucket_client, paths
from srgan_jax.bucket_client import BucketError
from srgan_jax.training import staging
from srgan_jax.training.staging import Staging

# The client leaves the connection of a failed request to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


def test_a_path_behaves_like_a_local_one(bucket):
    path, local = bucket / "a/b.tar.gz", PurePosixPath("/x/a/b.tar.gz")
    assert (path.name, path.stem, path.suffix) == (local.name, local.stem, local.suffix)
    assert str(path) == f"{bucket}/a/b.tar.gz"
    assert str(path.parent) == f"{bucket}/a"
    assert path.relative_to(bucket) == PurePosixPath("a/b.tar.gz")
    assert paths.parse(path) is path
    assert paths.parse(str(path)) == path
    assert hash(paths.parse(f"{bucket}//a/b.tar.gz/")) == hash(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://bucket/x", "expected gs://BUCKET/PATH or a local path; mount the stor"),
        ("gs://", "names no bucket"),
        ("gs:///x", "names no bucket"),
    ],
)
def test_other_addresses_are_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        paths.parse(text)
    assert str(caught.value).startswith(text)


def test_a_local_path_is_demanded_where_buckets_are_not_supported():
    with pytest.raises(ValueError, match="gs://b/x: expected a local path"):
        paths.parse_local("gs://b/x")


def test_a_bucket_without_its_libraries_names_the_extra():
    code = """
import sys
sys.modules["gcsfs"] = None
from srgan_jax import paths
try:
    paths.parse("gs://bucket/run")
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    message = "gs://bucket/run needs more packages: pip install 'srgan-jax[gcs]'\n"
    assert done.stdout == message


def test_files_are_written_listed_read_and_deleted(bucket):
    path = bucket / "a/b.bin"
    assert not path.exists()
    assert not bucket.is_dir()
    bucket.mkdir()
    with paths.replacing(path) as unfinished:
        unfinished.write_bytes(b"\0one")
    (bucket / "a.txt").write_bytes(b"two")
    assert path.is_file()
    assert not path.is_dir()
    assert (bucket / "a").is_dir()
    assert not (bucket / "a").is_file()
    assert path.read_bytes() == b"\0one"
    assert (bucket / "a.txt").read_text() == "two"
    listed = bucket.files()
    assert listed == [bucket / "a.txt", path]
    assert listed[1].stamp == paths.stamp(path) == path.status()[:2]
    with paths.reading(listed[1]) as file:
        file.seek(1)
        assert file.read() == b"one"
    with paths.local_copy(path) as copy:
        assert copy.name == path.name
        assert copy.read_bytes() == b"\0one"
    path.unlink()
    path.unlink(missing_ok=True)
    assert bucket.files() == [bucket / "a.txt"]


def test_a_failed_write_leaves_the_old_contents(bucket):
    path = bucket / "file"
    path.write_bytes(b"old")
    with pytest.raises(IsADirectoryError), paths.replacing(path) as unfinished:
        unfinished.mkdir()
    assert path.read_bytes() == b"old"


def test_a_large_file_is_read_in_parts(bucket, bucket_proxy):
    data = bytes(range(256)) * 4096
    (bucket / "large").write_bytes(data)
    (path,) = bucket.files()
    bucket_proxy.requests.clear()
    bucket_proxy.plan("alt=media", 503)
    with paths.reading(path) as file:
        assert file.read(16) == data[:16]
        assert file.seek(-16, 2) == len(data) - 16
        assert file.read() == data[-16:]
    assert len(bucket_proxy.requests) <= 4  # one of them failed


@pytest.mark.parametrize("method", ["read_bytes", "status", "unlink"])
def test_a_missing_file_is_named(bucket, method):
    with pytest.raises(FileNotFoundError) as caught:
        getattr(bucket / "missing", method)()
    assert caught.value.filename == f"{bucket}/missing"


def test_a_missing_bucket_is_named(bucket):
    with pytest.raises(BucketError, match=r"^gs://no-such-bucket/run: there is no bu"):
        paths.parse("gs://no-such-bucket/run").mkdir()


def test_a_file_is_created_and_replaced_only_in_the_expected_generation(bucket):
    path = bucket / "file"
    first = path.write_bytes(b"1", replacing=0)
    with pytest.raises(FileExistsError):
        path.write_bytes(b"2", replacing=0)
    second = path.write_bytes(b"2", replacing=first)
    with pytest.raises(FileExistsError):
        path.write_bytes(b"3", replacing=first)
    assert path.status()[0] == second
    assert path.read_bytes() == b"2"


@pytest.mark.parametrize("fault", FAULTS)
def test_reads_writes_and_lists_survive_a_fault(bucket, bucket_proxy, fault):
    path = bucket / "file"
    bucket_proxy.plan("^(POST|PUT) /upload", fault)
    path.write_bytes(b"x" * 100_000)
    bucket_proxy.plan("alt=media", fault)
    assert path.read_bytes() == b"x" * 100_000
    bucket_proxy.plan("^GET .*prefix=", fault)
    assert bucket.files() == [path]
    assert [kind for kind, _ in bucket_proxy.failed] == [fault] * 3


def test_a_bucket_that_does_not_answer_gives_one_sentence(
    bucket, bucket_proxy, monkeypatch
):
    monkeypatch.setattr(bucket_client, "RETRY_SECONDS", 3.0)
    bucket_proxy.plan("", 503, times=None)
    began = time.monotonic()
    with pytest.raises(BucketError) as caught:
        (bucket / "file").read_bytes()
    assert time.monotonic() - began < 10
    assert len(bucket_proxy.failed) > 1
    text = str(caught.value)
    assert text == (
        f"{bucket}/file: the bucket did not answer in 3 s (status 503); run the same "
        "command again once it does"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_access_says_what_to_do(bucket, bucket_proxy, status):
    bucket_proxy.plan("", status, times=None)
    with pytest.raises(BucketError, match="access was refused") as caught:
        (bucket / "file").read_bytes()
    assert "gcloud auth application-default login" in str(caught.value)


@pytest.mark.parametrize("fault", [None, CUT, LOST])
@pytest.mark.parametrize("request_", ["/upload", "/compose", "^DELETE"])
def test_append_adds_bytes_exactly_once(bucket, bucket_proxy, fault, request_):
    path = bucket / "log"
    path.write_bytes(b"one\n")
    bucket_proxy.plan(request_, fault)
    path.append(b"two\n", 4)
    path.append(b"two\n", 4)  # the answer to the first attempt was lost
    path.append(b"three\n", 8)
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert bucket.files() == [path]
    with pytest.raises(BucketError, match="has 14 bytes instead of 3"):
        path.append(b"four\n", 3)


@pytest.fixture
def stack():
    """Returns a function that closes an object after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda closed: stack.enter_context(contextlib.closing(closed))


def test_staging_uploads_what_is_new(bucket, bucket_proxy, stack):
    (bucket / "log").write_bytes(b"before\n")
    staged = stack(Staging(bucket))
    staged.fetch("log")
    staged.fetch("missing")
    log, trace = staged.folder / "log", staged.folder / "a/trace"
    assert log.read_bytes() == b"before\n"
    trace.parent.mkdir()
    trace.write_bytes(b"1")
    staged.upload()
    with log.open("ab") as file:
        file.write(b"after\n")
    staged.upload()
    assert (bucket / "log").read_bytes() == b"before\nafter\n"
    assert (bucket / "a/trace").read_bytes() == b"1"
    bucket_proxy.requests.clear()
    staged.upload()
    assert bucket_proxy.requests == []


def test_staging_writes_a_local_directory_in_place(tmp_path):
    assert Staging(tmp_path).folder == tmp_path


def test_staging_is_due_after_some_seconds(bucket, monkeypatch, stack):
    staged = stack(Staging(bucket))
    assert not staged.is_due
    monkeypatch.setattr(staging, "SECONDS_BETWEEN_UPLOADS", 0.0)
    assert staged.is_due
