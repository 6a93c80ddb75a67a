"""Storage that speaks as much of S3 as a backup needs: PUT and GET of objects, requests signed by version 4.

The signature is computed anew from what came (docs.aws.amazon.com, "Signature Calculations for the
Authorization Header"): a client that signs another request than it sends is refused, as by the real ones.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
MUST_BE_SIGNED = {"host", "x-amz-content-sha256", "x-amz-date"}


class Refused(Exception):
    """An error of the storage: status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


class S3:
    """A storage with one bucket, on an address and port of its own, until it is closed.

    Attributes:
        url: the endpoint.
        objects: what it holds, by path in the bucket.
        errors: statuses that the next requests get.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        bucket: str = "backups",
        access_key: str = "AKIASTORAGE",
        secret_key: str = "secret/in+clear=",
        region: str = "eu-test-1",
    ) -> None:
        self.bucket, self.region = bucket, region
        self.objects: dict[str, bytes] = {}
        self.errors: list[int] = []
        self._access_key, self._secret_key = access_key, secret_key
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                storage._answer(self)

            do_GET = do_PUT

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def credentials(self) -> str:
        """As the setting has them."""
        return f"{self._access_key}:{self._secret_key}"

    def close(self) -> None:
        """Hold no port any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        try:
            if self.errors:
                raise Refused(self.errors.pop(0), "SlowDown")
            status, text = 200, self._content(request, body)
        except Refused as error:
            status = error.status
            text = f"<Error><Code>{error}</Code></Error>".encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _content(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        self._check(request, body)
        bucket, _, name = unquote(urlsplit(request.path).path).lstrip("/").partition("/")
        if bucket != self.bucket:
            raise Refused(404, "NoSuchBucket")
        if request.command == "PUT":
            self.objects[name] = body
            return b""
        if name not in self.objects:
            raise Refused(404, "NoSuchKey")
        return self.objects[name]

    def _check(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        found = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        if found is None:
            raise Refused(403, "AccessDenied")
        if found["key"] != self._access_key:
            raise Refused(403, "InvalidAccessKeyId")
        names = found["names"].split(";")
        amz = {name.lower() for name in request.headers if name.lower().startswith("x-amz-")}
        if not (MUST_BE_SIGNED | amz) <= set(names) or found["region"] != self.region:
            raise Refused(403, "AccessDenied")
        digest = request.headers["x-amz-content-sha256"]
        if digest != hashlib.sha256(body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")
        parts = urlsplit(request.path)
        canonical = "\n".join(
            [
                request.command,
                quote(unquote(parts.path), safe="/-_.~"),
                parts.query,
                *(f"{name}:{request.headers[name].strip()}" for name in names),
                "",
                found["names"],
                digest,
            ]
        )
        scope = f"{found['date']}/{self.region}/s3/aws4_request"
        to_sign = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                request.headers["x-amz-date"],
                scope,
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{self._secret_key}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        right = hmac.digest(key, to_sign.encode(), "sha256").hex()
        if not hmac.compare_digest(right, found["signature"]):
            raise Refused(403, "SignatureDoesNotMatch")
