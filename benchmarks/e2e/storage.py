"""A folder of objects -> a bucket: the one that `S3_ENDPOINT` names, or the tests' S3 server as a process of its own."""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import sys
import tempfile
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from process import BenchmarkError, Server

UPLOADS_AT_ONCE = 4


class Bucket:
    """A prefix of a bucket, addressed by path, with what a configuration needs to read it."""

    def __init__(self, endpoint, name, access_key, secret_key, prefix="", region="us-east-1"):
        self.endpoint, self.name, self.prefix, self.region = endpoint.rstrip("/"), name, prefix, region
        self.access_key, self.secret_key = access_key, secret_key
        self.server = None

    def settings(self):
        """The `storage` section of a configuration."""
        return {
            "url": f"s3://{self.name}/{self.prefix}".rstrip("/"),
            "endpoint": self.endpoint,
            "region": self.region,
            "allow_http": self.endpoint.startswith("http://"),
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "path_style": True,
        }

    def key(self, relative):
        """The object's key in the bucket."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def request(self, method, key, body=b""):
        """One signed request; anything but success stops the benchmark."""
        url = urllib.parse.urlsplit(self.endpoint)
        path = urllib.parse.quote(f"/{self.name}/{key}", safe="/-_.~")
        headers = sign(self, method, url.netloc, path, body)
        connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = connect(url.netloc, timeout=120)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except OSError as error:
            raise BenchmarkError(f"{method} {key}: {self.endpoint} cannot be reached: {error}; check S3_ENDPOINT") from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise BenchmarkError(f"{method} {key}: {self.endpoint} answers {answer.status}; check S3_BUCKET and the keys")

    def files(self, folder):
        """All `data/` files of a folder and their keys here."""
        files = sorted(path for path in Path(folder, "data").rglob("*.parquet"))
        if not files:
            raise BenchmarkError(f"{folder} holds no Parquet files below data/")
        return [(path, self.key(path.relative_to(folder).as_posix())) for path in files]

    def upload(self, folder):
        """Puts all files of a folder."""
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            list(pool.map(lambda file: self.request("PUT", file[1], file[0].read_bytes()), self.files(folder)))

    def remove(self, folder):
        """Deletes what `upload` put; a key that is not there is no fault."""
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            list(pool.map(lambda file: self.request("DELETE", file[1]), self.files(folder)))


def sign(bucket, method, host, path, body):
    """Headers of signature version 4 for a request without a query."""
    now = datetime.datetime.now(datetime.timezone.utc)
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    content = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": content, "x-amz-date": time}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join([method, path, "", lines, names, content])
    scope = f"{day}/{bucket.region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{bucket.secret_key}".encode()
    for part in (day, bucket.region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={bucket.access_key}/{scope}"
    return {**headers, "Authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}


@contextmanager
def given_bucket(folder):
    """The objects of a folder in the bucket that the environment names; removed again at the end."""
    missing = [name for name in ("S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY") if not os.environ.get(name)]
    if missing:
        raise BenchmarkError(f"S3_ENDPOINT is set, so {', '.join(missing)} must be set as well")
    bucket = Bucket(
        os.environ["S3_ENDPOINT"],
        os.environ["S3_BUCKET"],
        os.environ["S3_ACCESS_KEY"],
        os.environ["S3_SECRET_KEY"],
        prefix=f"gristmill-benchmark-{uuid.uuid4()}",
        region=os.environ.get("S3_REGION", "us-east-1"),
    )
    try:
        bucket.upload(folder)
        yield bucket
    except BaseException:
        # The error that led here is the one to report.
        try:
            bucket.remove(folder)
        except BenchmarkError as error:
            print(f"objects may be left below {bucket.prefix}/ of bucket {bucket.name}: {error}", file=sys.stderr)
        raise
    bucket.remove(folder)


@contextmanager
def own_bucket(program, folder, latency_milliseconds=0):
    """The S3 server over a folder of objects, each request waiting for the latency."""
    with Server([program, folder, latency_milliseconds], "the S3 server") as server:
        facts = json.loads(server.ready)
        bucket = Bucket(facts["endpoint"], facts["bucket"], facts["access_key"], facts["secret_key"])
        bucket.server = server
        yield bucket


@contextmanager
def uploaded(program, folder):
    """The objects of a folder, uploaded to an empty server of our own or to the one that `S3_ENDPOINT` names."""
    if os.environ.get("S3_ENDPOINT"):
        with given_bucket(folder) as bucket:
            yield bucket
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-s3-", dir=Path(folder).parent) as objects:
        with own_bucket(program, objects) as bucket:
            bucket.upload(folder)
            yield bucket
